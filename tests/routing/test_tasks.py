"""The task of a request, told from its form.

SEEN was at hand while the rules were made; HELD_OUT was written before them and looked at once they were done.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import TASKS as KNOWN
from gateway.wire import Wire, anthropic, completions, embeddings, fim, openai
from providers.lenient import dumps
from providers.types import Call, Hints, Json
from routing.tasks import TASKS, Guess, guess

WIRES: dict[str, Wire] = {wire.OPERATION: wire for wire in (openai, completions, fim, embeddings, anthropic)}


class Case(NamedTuple):
    task: str
    operation: str
    body: Json


def call(operation: str, body: Json, needs: dict[str, str] | None = None) -> Call:
    return Call(
        id="1",
        operation=operation,
        raw=b"",
        body=body,
        model="auto",
        stream=False,
        include_usage=False,
        needs=needs or {},
        hints=Hints(),
        started=0.0,
        deadline=1.0,
        snapshot="",
    )


def ask(task: str, text: str, system: str | None = None, **params: Any) -> Case:
    """One question in OpenAI's dialect."""
    before = [] if system is None else [{"role": "system", "content": system}]
    return Case(task, "chat", {"messages": [*before, {"role": "user", "content": text}], **params})


def talk(task: str, *turns: str, system: str | None = None, **params: Any) -> Case:
    """A conversation: the user's turns and the assistant's by turns."""
    said = [{"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(turns)]
    before = [] if system is None else [{"role": "system", "content": system}]
    return Case(task, "chat", {"messages": [*before, *said], **params})


def claude(task: str, text: str | list[Json], **params: Any) -> Case:
    """One question in Anthropic's dialect."""
    return Case(task, "messages", {"messages": [{"role": "user", "content": text}], "max_tokens": 1024, **params})


def text(task: str, prompt: Any, **params: Any) -> Case:
    """A completion of a text."""
    return Case(task, "completions", {"prompt": prompt, **params})


def gap(task: str, prompt: str, suffix: str = "", **params: Any) -> Case:
    return Case(task, "fim", {"prompt": prompt, "suffix": suffix, **params})


def schema(**properties: Json) -> Json:
    """A `response_format` for an object of these properties."""
    form = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": form, "strict": True}}


def tools(*names: str) -> list[Json]:
    return [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in names]


def photo(said: str) -> list[Json]:
    return [{"type": "text", "text": said}, {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]


PYTHON = """```python
def chunks(seq, n):
    for i in range(0, len(seq), n):
        yield seq[i : i + n]
```"""
BARE_JS = """const total = items.reduce((sum, item) => {
  return sum + item.price * item.qty;
}, 0);
document.getElementById("total").innerHTML = total.toFixed(2);
"""
TRACE = """Traceback (most recent call last):
  File "/srv/app/worker.py", line 41, in run
    job = queue.pop()
  File "/srv/app/queue.py", line 12, in pop
    return self.items[0]
IndexError: list index out of range
"""
DIFF = """diff --git a/cart.ts b/cart.ts
@@ -10,7 +10,7 @@ export class Cart {
-  add(item: Item) { this.items.push(item); }
+  add(item: Item) { this.items = [...this.items, item]; }
"""
ARTICLE = (
    "The council met on Tuesday to discuss the new tram line. Residents of the northern districts had asked for a "
    "stop nearer to the hospital, while shop owners feared the years of building. The mayor said that the plans "
    "would be shown to the public in autumn and that nothing had been settled. A vote is expected next spring. "
) * 6
MAIL = "Hi, my order 77120 arrived broken on 3 May. Please send a new one to Anna Petrov, 12 Mill Lane, York. Thanks"

SEEN = [
    # autocomplete
    gap("autocomplete", "def mean(xs):\n    return ", "\n\nprint(mean([1, 2]))"),
    gap("autocomplete", "SELECT name FROM "),
    text(
        "autocomplete",
        "class Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self",
        max_tokens=48,
    ),
    text("autocomplete", "function add(a, b) {\n  ", suffix="\n}\n", max_tokens=64),
    text("autocomplete", ["#include <stdio.h>\n\nint main(void) {\n    printf("], max_tokens=32, stop=["\n"]),
    text("autocomplete", "<fim_prefix>let x = <fim_suffix>;<fim_middle>", max_tokens=20),
    ask(
        "autocomplete",
        "for (int i = 0; i < n; i++) {\n    total += prices[i];\n}\nreturn tot",
        max_tokens=24,
        stop=["\n"],
    ),
    ask(
        "autocomplete",
        "import os\n\ndef walk(root):\n    for name in os.listdir(root):\n",
        "You are a code completion engine. Output only the code that follows.",
        max_tokens=64,
    ),
    claude(
        "autocomplete",
        "Complete the code at <CURSOR>:\n\nasync function load(url) {\n  const res = await <CURSOR>\n}",
        max_tokens=60,
    ),
    # code
    ask("code", f"Can you make this faster?\n{PYTHON}"),
    ask("code", f"there is an off by one somewhere, please fix\n\n{BARE_JS}"),
    ask("code", f"{TRACE}\nHow do I get rid of this?"),
    ask("code", "Write a Rust function that merges two sorted vectors."),
    ask("code", "I need a SQL query for the ten customers who spent most last month"),
    ask("code", "Schreib mir ein Bash-Skript, das alle Logdateien älter als 30 Tage löscht"),
    ask("code", "Escribe una función en Python que valide correos electrónicos"),
    ask("code", "Implémente une pile en Java avec ses tests unitaires"),
    ask("code", f"Review this change for me:\n{DIFF}"),
    ask(
        "code",
        "rename the helper and update the callers",
        tools=tools("read_file", "edit_file", "run_terminal_cmd", "grep_search"),
    ),
    claude(
        "code",
        "the login test is flaky, have a look",
        tools=[{"name": name, "input_schema": {}} for name in ("Bash", "Read", "Edit", "Glob", "Grep")],
        thinking={"type": "enabled", "budget_tokens": 4096},
    ),
    talk(
        "code",
        "Build a todo app in React",
        "Here is a first version: ...",
        "now add dark mode to the component",
        system="You are an expert programmer.",
    ),
    ask("code", "regex to match ISO dates but not times"),
    # explanation
    ask("explanation", f"What does this do?\n{PYTHON}", "You are a coding assistant in an editor."),
    ask("explanation", f"Explain this code to a beginner:\n\n{BARE_JS}"),
    ask("explanation", f"Why am I seeing this?\n{TRACE}"),
    ask("explanation", f"Kannst du mir erklären, was dieser Code macht?\n{PYTHON}"),
    ask("explanation", f"Explique-moi cette fonction.\n{PYTHON}"),
    ask("explanation", "¿Por qué el cielo es azul?"),
    ask("explanation", "How does a heat pump work?"),
    ask("explanation", "what's the difference between TCP and UDP"),
    claude("explanation", f"walk me through this\n{PYTHON}", system="You are a coding assistant."),
    claude(
        "explanation",
        [{"type": "text", "text": "how does the session cache in here work?"}],
        tools=[{"name": name, "input_schema": {}} for name in ("Bash", "Read", "Edit", "Grep")],
    ),
    # reasoning
    ask(
        "reasoning",
        "Three friends each wear a hat, red or blue. Each sees the others' hats. Think step by step: who can know their own colour?",
    ),
    ask("reasoning", "Prove that there are infinitely many primes of the form 4k + 3."),
    ask("reasoning", "Should we move our offices out of town? Weigh it up carefully.", reasoning_effort="high"),
    ask("reasoning", "A farmer has to cross a river with a wolf, a goat and a cabbage. Solve this riddle."),
    ask("reasoning", "Beweise, dass die Wurzel aus 2 irrational ist."),
    claude(
        "reasoning",
        "Alice says Bob lies. Bob says Carol lies. Carol says both lie. Who tells the truth?",
        output_config={"effort": "high"},
    ),
    # math
    ask("math", "What is 17% of 2,340?"),
    ask("math", "Solve $x^2 - 5x + 6 = 0$ for x"),
    ask("math", "Mia has 24 apples, gives 7 away and buys 3 bags of 5. How many apples does she have now?"),
    ask("math", "Compute the integral of x sin(x) from 0 to pi"),
    ask("math", "Berechne den Flächeninhalt eines Kreises mit Radius 4 cm."),
    ask("math", "Combien font 125 divisé par 5, plus 12 ?"),
    ask("math", "¿Cuánto es 45 * 12 - 8?"),
    # summarization
    ask("summarization", f"Summarize the following article in two sentences.\n\n{ARTICLE}"),
    ask("summarization", f"{ARTICLE}\n\nTL;DR please"),
    ask("summarization", f"Fasse den folgenden Text kurz zusammen:\n{ARTICLE}"),
    ask("summarization", f"Fais-moi un résumé de cet article : {ARTICLE}"),
    ask("summarization", f"Resume este texto en una frase.\n{ARTICLE}"),
    ask("summarization", f"Give me the key points of these minutes:\n\n{ARTICLE}"),
    ask("summarization", ARTICLE, "You write short summaries of news articles for a morning newsletter."),
    # extraction
    ask(
        "extraction",
        MAIL,
        "Pull out the customer's details.",
        response_format=schema(
            name={"type": "string"}, order={"type": "integer"}, address={"type": "string"}, when={"type": "string"}
        ),
    ),
    ask(
        "extraction",
        f"Return the order number and the address as JSON.\n{MAIL}",
        response_format={"type": "json_object"},
    ),
    ask(
        "extraction",
        MAIL,
        tools=tools("save_order"),
        tool_choice={"type": "function", "function": {"name": "save_order"}},
    ),
    claude(
        "extraction",
        MAIL,
        tools=[{"name": "save_order", "input_schema": {"type": "object", "properties": {"id": {"type": "string"}}}}],
        tool_choice={"type": "tool", "name": "save_order"},
    ),
    claude(
        "extraction",
        MAIL,
        output_config={
            "format": {
                "type": "json_schema",
                "schema": {"type": "object", "properties": {"name": {"type": "string"}, "street": {"type": "string"}}},
            }
        },
    ),
    ask("extraction", f"Extract all names and dates from this mail: {MAIL}"),
    ask("extraction", f"Liste alle Personen auf, die im Text vorkommen.\n{MAIL}"),
    ask("extraction", photo("Read the total and the date off this receipt")),  # type: ignore[arg-type]
    # classification
    ask("classification", "Is this review positive or negative? 'The battery died after a week.'", max_tokens=3),
    ask(
        "classification",
        MAIL,
        "Classify the ticket as one of: billing, shipping, returns, other. Answer with the label only.",
        max_tokens=5,
    ),
    ask(
        "classification",
        MAIL,
        response_format=schema(label={"type": "string", "enum": ["billing", "shipping", "other"]}),
    ),
    ask(
        "classification",
        MAIL,
        tools=[
            {
                "type": "function",
                "function": {
                    "name": "route",
                    "parameters": {
                        "type": "object",
                        "properties": {"queue": {"enum": ["a", "b"]}, "urgent": {"type": "boolean"}},
                    },
                },
            }
        ],
        tool_choice={"type": "function", "function": {"name": "route"}},
    ),
    ask(
        "classification", "Ordne die Nachricht einer Kategorie zu: Lob, Beschwerde oder Frage.\n\nWo bleibt mein Paket?"
    ),
    text("classification", "Tweet: I love this phone\nSentiment:", max_tokens=1),
    # writing
    ask("writing", "Write a short poem about the sea in November"),
    ask("writing", "Draft an email to my landlord asking for a lower rent."),
    ask("writing", "Translate into Italian: The train leaves at nine."),
    ask("writing", "Schreibe eine Geschichte über einen Drachen, der Angst vor Feuer hat."),
    ask("writing", "Traduis cette phrase en anglais : il pleut des cordes"),
    ask("writing", "Make this sound friendlier: Send me the report by noon."),
    ask("writing", "Redacta una carta de presentación para un puesto de camarero"),
    # chat
    talk("chat", "hey, how's it going?"),
    talk(
        "chat",
        "I had a rough day",
        "I'm sorry to hear that. What happened?",
        "my boss shouted at me in front of everybody",
    ),
    talk(
        "chat",
        "Any plans for the weekend?",
        "I'd love to hear yours!",
        "maybe hiking, if it doesn't rain",
        "Sounds lovely. Where to?",
        "somewhere near the lake",
    ),
    talk("chat", "Hallo! Na, alles klar bei dir?"),
    talk(
        "chat",
        "What should I cook tonight?",
        "How about a risotto?",
        "hmm, something lighter",
        system="You are Luna, a cheerful companion.",
    ),
    # general
    ask("general", "Who won the world cup in 1998?"),
    ask("general", "Name three good restaurants in Lisbon"),
    ask("general", "Is it safe to eat raw oats?"),
    ask("general", photo("Where was this taken?")),  # type: ignore[arg-type]
    Case("general", "embeddings", {"input": "a red bicycle"}),
    text("general", [[1212, 318, 257, 1332]], max_tokens=100),
]
"""What the rules were made with."""

GO = """func (s *Server) Serve(ctx context.Context) error {
	for {
		conn, err := s.ln.Accept()
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		go s.handle(ctx, conn)
	}
}
"""
JAVA_TRACE = """Exception in thread "main" java.lang.NullPointerException: Cannot invoke "User.getName()" because "user" is null
	at com.acme.Mailer.greet(Mailer.java:27)
	at com.acme.Main.main(Main.java:9)
"""
TERMS = (
    "The supplier shall deliver the goods within thirty days of the order. Where delivery is late, the buyer may "
    "withdraw or claim two percent of the price for each week begun. Claims for hidden faults must be made in "
    "writing within a year. The courts at the supplier's seat have jurisdiction, and the law of that state applies. "
) * 7
INVOICE = "Invoice 2024-118\nBauer GmbH, Hafenstr. 4, Kiel\n3 x oak board, 41.50 each\nDue 14 June\nIBAN DE02 1203 0000 0000 2020 51"

HELD_OUT = [
    gap("autocomplete", "<template>\n  <div>", "</div>\n</template>", max_tokens=30),
    text(
        "autocomplete",
        'package main\n\nimport (\n\t"fmt"\n)\n\nfunc main() {\n\tnames := []string{',
        max_tokens=40,
        temperature=0,
    ),
    text(
        "autocomplete",
        "// returns the larger of two numbers\npublic static int max(int a, int b) {\n    return ",
        max_tokens=16,
        stop=["}"],
    ),
    ask(
        "autocomplete",
        "    def area(self):\n        return self.width * self.\n",
        "Continue the user's code. No prose, no markdown.",
        max_tokens=32,
    ),
    ask("code", f"Port this to Kotlin, keep the names\n\n```java\n{JAVA_TRACE}```"),
    ask("code", f"{GO}\nShut it down gracefully when the context ends."),
    ask("code", "need a dockerfile for a django app with postgres"),
    ask("code", "How can I sort a dictionary by value in JavaScript?"),
    ask("code", "Erstelle eine REST-Schnittstelle mit FastAPI für eine Bücherliste"),
    ask("code", "Corrige el error de compilación de este programa en C++"),
    ask("code", f"{JAVA_TRACE}\nwhat is the right way to handle that?"),
    claude(
        "code",
        "bump the dependency and make CI green again",
        tools=[
            {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
            {"type": "bash_20250124", "name": "bash"},
        ],
    ),
    talk("code", "hi", "Hello! How can I help?", f"unit tests for this please\n{GO}"),
    ask("explanation", f"I don't understand the third line here.\n{PYTHON}"),
    ask("explanation", f"{GO}\nCan you describe in plain English what happens when Accept fails?"),
    ask("explanation", f"Was bedeutet diese Fehlermeldung?\n{JAVA_TRACE}"),
    ask("explanation", "Explain like I'm five: what is inflation?"),
    ask("explanation", "Pourquoi les feuilles changent-elles de couleur en automne ?"),
    ask("explanation", "In what way do mRNA vaccines differ from older ones?"),
    claude("explanation", [{"type": "text", "text": "What's going on in this snippet?"}, {"type": "text", "text": GO}]),
    ask(
        "reasoning",
        "There are five houses in five colours. The Swede keeps dogs. The Dane drinks tea. Who owns the fish?",
    ),
    ask(
        "reasoning",
        "If all bloops are razzies and some razzies are lazzies, are some bloops lazzies? Justify your answer.",
    ),
    ask("reasoning", "Show that the sum of two odd integers is always even"),
    ask("reasoning", "Plan the launch so that no team waits for another", reasoning_effort="xhigh"),
    ask("math", "A shirt costs 40 euros after a 20% discount. What was the price before?"),
    ask("math", "differentiate ln(3x^2 + 1)"),
    ask("math", "Evaluate \\[\\sum_{k=1}^{10} k^3\\]"),
    ask("math", "¿Cuál es la probabilidad de sacar dos ases de una baraja de 52 cartas?"),
    ask("math", "Wie viel sind drei Achtel von 640?"),
    ask("summarization", f"{TERMS}\n\nWhat does this boil down to?"),
    ask("summarization", f"Condense this contract into five bullet points\n\n{TERMS}"),
    ask("summarization", f"Worum geht es in diesem Vertrag? Bitte nur drei Sätze.\n\n{TERMS}"),
    ask("summarization", f"Hazme un resumen de lo siguiente:\n{TERMS}"),
    claude("summarization", f"Recap this for a busy manager.\n\n{TERMS}"),
    ask(
        "extraction",
        INVOICE,
        "Fill in the form from the document.",
        response_format=schema(
            number={"type": "string"}, iban={"type": "string"}, lines={"type": "array", "items": {"type": "object"}}
        ),
    ),
    ask("extraction", f"Which companies, places and amounts of money are mentioned below?\n\n{INVOICE}"),
    ask("extraction", f"Trouve toutes les adresses dans ce document et donne-les en JSON.\n{INVOICE}"),
    ask("extraction", f"get me the IBAN from this\n{INVOICE}"),
    ask(
        "classification", "Does the following comment contain hate speech? Reply yes or no.\n\n'See you at the match!'"
    ),
    ask("classification", "Which language is this written in? 'Hva heter du?'", max_tokens=4),
    ask(
        "classification",
        INVOICE,
        response_format=schema(
            kind={"type": "string", "enum": ["invoice", "receipt", "letter"]}, confidence={"type": "number"}
        ),
    ),
    claude(
        "classification",
        "My card was charged twice!",
        system="Decide which team handles the message: payments, tech or sales. Output just the team.",
        max_tokens=4,
    ),
    ask("writing", "Come up with a slogan for a bakery that only sells rye bread"),
    ask("writing", "Polish the grammar of this paragraph: me and him was going to the shop"),
    ask("writing", "Wie sagt man auf Englisch: Ich drücke dir die Daumen"),
    ask("writing", "Compose a wedding speech for my sister, funny but kind"),
    ask("writing", "Rédige un discours d'anniversaire pour mon grand-père"),
    talk("chat", "good morning :)"),
    talk("chat", "Do you ever get bored?", "I don't get bored the way people do.", "lucky you"),
    talk("chat", "Estoy aburrido", "¿Qué te apetece hacer?", "no sé, cuéntame algo"),
    talk("chat", "tell me about yourself", "I'm an assistant.", "who made you", "People did.", "ok cool"),
    ask("general", "what time zone is Nepal in"),
    ask("general", "Best way to remove red wine from a carpet?"),
    ask("general", "Wann wurde die Berliner Mauer gebaut?"),
    ask("general", "Recommend a podcast on Roman history"),
]
"""What they were judged by."""


# --- How often it is right ---


def right(cases: Sequence[Case]) -> tuple[float, str]:
    """The share of cases that are told, and a sentence with it and with those that are not."""
    missed = [f"{case.task} as {told}" for case in cases if (told := guess(call(*case[1:])).task) != case.task]
    share = 1 - len(missed) / len(cases)
    return share, f"{share:.0%} of {len(cases)}; taken for another: {', '.join(sorted(missed)) or 'none'}"


def test_most_of_what_the_rules_were_made_with_is_told(figure: Callable[[str], None]) -> None:
    share, sentence = right(SEEN)
    figure(f"tasks, seen: {sentence}")
    assert share >= 0.9, sentence


def test_most_of_what_was_held_out_is_told(figure: Callable[[str], None]) -> None:
    share, sentence = right(HELD_OUT)
    figure(f"tasks, held out: {sentence}")
    assert share >= 0.75, sentence


def test_a_guess_is_right_about_as_often_as_it_says(figure: Callable[[str], None]) -> None:
    guesses = [(case.task, guess(call(*case[1:]))) for case in HELD_OUT]
    said = sum(told.confidence for _, told in guesses) / len(guesses)
    true = sum(told.task == task for task, told in guesses) / len(guesses)
    figure(f"tasks, held out: {said:.0%} said, {true:.0%} true")
    assert said <= true + 0.1


@pytest.mark.parametrize("cases", [SEEN, HELD_OUT])
def test_every_task_is_among_the_cases(cases: Sequence[Case]) -> None:
    assert {case.task for case in cases} >= set(TASKS)


@pytest.mark.parametrize("case", [*SEEN, *HELD_OUT], ids=lambda case: case.task)
def test_the_cases_are_requests_that_the_gateway_takes(case: Case) -> None:
    asked = WIRES[case.operation].decode(dumps({"model": "auto", **case.body}))
    assert guess(call(case.operation, case.body, dict(asked.needs))).task in TASKS


def test_the_tasks_are_those_of_the_configuration() -> None:
    assert TASKS == KNOWN


# --- What must be right ---

EXPLAIN = f"Explain this code\n{PYTHON}"

CERTAIN = [
    gap("autocomplete", "def mean(xs):\n    return ", "\n"),
    text("autocomplete", "def mean(xs):\n    return ", max_tokens=32),
    text("autocomplete", "def mean(xs):\n    return ", suffix="\n"),
    ask("explanation", EXPLAIN),
    ask("explanation", EXPLAIN, "You are a coding assistant.", max_tokens=100),
    claude("explanation", EXPLAIN, system=[{"type": "text", "text": "You are a coding assistant."}]),
    claude(
        "explanation",
        [
            {"type": "text", "text": "<system-reminder>Write tests first.</system-reminder>"},
            {"type": "text", "text": EXPLAIN},
        ],
    ),
    ask("code", f"Refactor this code\n{PYTHON}"),
    ask("classification", "ping", max_tokens=1),
    talk("extraction", "Who sent this?\n" + MAIL, "{"),
    Case("general", "chat", {"messages": [{"role": "assistant", "content": None}]}),
    Case("general", "something new", {}),
]


@pytest.mark.parametrize("case", CERTAIN, ids=lambda case: case.task)
def test_the_plain_cases_are_told(case: Case) -> None:
    assert guess(call(*case[1:])).task == case.task


LABEL = {"enum": ["bug", "wish"]}

SCHEMAS: list[tuple[str, Json]] = [
    ("classification", {"label": LABEL}),
    ("classification", {"labels": {"type": "array", "items": LABEL}, "confidence": {"type": "number"}}),
    ("classification", {"reason": {"type": "string"}, "label": LABEL}),
    ("classification", {"is_spam": {"type": "boolean"}}),
    ("classification", {"label": {"$ref": "#/$defs/Label"}}),
    ("extraction", {"title": {"type": "string"}, "label": LABEL}),
    ("extraction", {"count": {"type": "integer"}}),
    ("extraction", {"label": {"$ref": "#/$defs/Elsewhere"}}),
    ("extraction", {}),
]


@pytest.mark.parametrize(("task", "properties"), SCHEMAS)
def test_a_schema_that_leaves_a_choice_asks_for_a_label(task: str, properties: Json) -> None:
    form = schema(**properties)
    form["json_schema"]["schema"]["$defs"] = {"Label": LABEL}
    forced = {
        "tools": [{"name": "keep", "input_schema": form["json_schema"]["schema"]}],
        "tool_choice": {"type": "tool", "name": "keep"},
    }
    assert guess(call(*ask(task, MAIL, response_format=form)[1:])).task == task
    assert guess(call(*claude(task, MAIL, **forced)[1:])).task == task


@pytest.mark.parametrize("choice", ["auto", "none", None, {"type": "auto"}])
def test_a_tool_that_may_be_called_binds_nothing(choice: object) -> None:
    case = ask("writing", "Write a poem", tools=tools("save"), tool_choice=choice)
    assert guess(call(*case[1:])).task == "writing"


# --- What it never does ---

SECRET = "xyzzyplugh"


@pytest.mark.parametrize("case", [*SEEN, *HELD_OUT], ids=lambda case: case.task)
def test_the_reason_says_nothing_of_the_prompt(case: Case) -> None:
    def marked(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: marked(each) for key, each in value.items()}
        if isinstance(value, list):
            return [marked(each) for each in value]
        return f"{value} {SECRET}" if isinstance(value, str) and " " in value else value

    told = guess(call(case.operation, marked(case.body)))
    assert SECRET not in told.reason
    assert len(told.reason) < 60


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def mostly(*usual: Any) -> st.SearchStrategy[Any]:
    """One of the usual values, or anything."""
    return st.sampled_from(usual) | JSON


def holding(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries({}, optional=fields)


WORDING = st.text() | st.sampled_from(
    [case.body["messages"][-1]["content"] for case in SEEN if case.operation == "chat"]
)
PART = JSON | holding(
    type=mostly("text", "image_url", "thinking", "tool_use", "tool_result", "document", "unheard_of"),
    text=WORDING | JSON,
    content=JSON,
    thinking=JSON,
    input=JSON,
)
MESSAGE = JSON | holding(
    role=mostly("user", "assistant", "system", "developer", "tool"),
    content=WORDING | st.lists(PART, max_size=4) | JSON,
    tool_calls=JSON,
)
SCHEMA = JSON | holding(
    type=mostly("object"),
    enum=JSON,
    properties=JSON | st.dictionaries(st.text(max_size=8), mostly({"enum": []}, {"$ref": "#/$defs/a"}, {"items": 1})),
)
SCHEMA |= st.fixed_dictionaries({"$defs": JSON, "properties": st.just({"a": {"$ref": "#/$defs/a"}})})
TOOL = JSON | holding(
    type=mostly("function", "custom", "bash_20250124"),
    name=mostly("Bash", "keep"),
    function=JSON | holding(name=mostly("keep"), parameters=SCHEMA),
    input_schema=SCHEMA,
)
BODY = JSON.filter(lambda value: isinstance(value, dict)) | holding(
    messages=st.lists(MESSAGE, max_size=5) | JSON,
    system=JSON | st.lists(PART, max_size=3),
    prompt=JSON | st.lists(st.integers()) | st.lists(st.text()) | WORDING,
    suffix=JSON,
    max_tokens=mostly(0, 1, 50, 4096),
    max_completion_tokens=JSON,
    response_format=JSON
    | holding(type=mostly("json_schema", "json_object"), json_schema=JSON | holding(schema=SCHEMA)),
    output_format=JSON,
    output_config=JSON | holding(effort=JSON, format=JSON | holding(type=mostly("json_schema"), schema=SCHEMA)),
    tools=JSON | st.lists(TOOL, max_size=3),
    functions=JSON | st.lists(TOOL, max_size=3),
    tool_choice=mostly("required", {"type": "any"}, {"type": "tool", "name": "keep"}),
    function_call=mostly({"name": "keep"}),
    thinking=mostly({"budget_tokens": 9000}),
    reasoning_effort=mostly("high"),
)


@given(st.sampled_from(["chat", "messages", "count_tokens", "completions", "embeddings", "fim", "unheard_of"]), BODY)
def test_any_body_is_guessed(operation: str, body: Json) -> None:
    told = guess(call(operation, body))
    assert isinstance(told, Guess)
    assert told.task in TASKS
    assert 0 <= told.confidence <= 1
    assert told == guess(call(operation, body))


# --- What it costs ---


class Read:
    """How many characters and entries were taken out of what was handed in."""

    def __init__(self) -> None:
        self.count = 0


class Text(str):
    """A text that may only be cut, and counts what is cut from it."""

    read: Read

    def __getitem__(self, at: Any) -> str:
        part = str.__getitem__(self, at)
        self.read.count += len(part)
        return part

    def __forbidden(self, *_: Any) -> Any:
        raise AssertionError("the whole text was read")

    __contains__ = __iter__ = __add__ = __mod__ = __eq__ = __hash__ = __forbidden
    encode = lower = upper = casefold = find = rfind = index = count = split = splitlines = __forbidden
    replace = translate = strip = join = partition = rpartition = isascii = __forbidden


class Entries(list[Any]):
    """A list that may only be indexed or cut, and counts what is taken from it."""

    read: Read

    def __getitem__(self, at: Any) -> Any:
        part = list.__getitem__(self, at)
        self.read.count += len(part) if isinstance(at, slice) else 1
        return part

    def __iter__(self) -> Any:
        raise AssertionError("the whole list was read")


def watched(value: Any, read: Read) -> Any:
    """The body with every long text and list counting."""
    if isinstance(value, dict):
        return {key: watched(each, read) for key, each in value.items()}
    if isinstance(value, list) and len(value) > 8:
        entries = Entries(watched(each, read) for each in value)
        entries.read = read
        return entries
    if isinstance(value, list):
        return [watched(each, read) for each in value]
    if isinstance(value, str) and len(value) > 4096:
        text = Text(value)
        text.read = read
        return text
    return value


def sized(size: int) -> dict[str, Json]:
    """Bodies of one kind each that grow with `size`."""
    turns = [{"role": "user", "content": "and then?"}, {"role": "assistant", "content": "then this"}] * size
    results = [{"role": "tool", "tool_call_id": "1", "content": "done"}] * size
    return {
        "prose": {"messages": [{"role": "user", "content": ARTICLE * size}]},
        "code": {"messages": [{"role": "user", "content": BARE_JS * size}]},
        "far letters": {"messages": [{"role": "user", "content": "Съешь ещё этих булок. " * 40 * size}]},
        "system": {"messages": [{"role": "system", "content": ARTICLE * size}, {"role": "user", "content": "hi"}]},
        "anthropic's system": {"system": ARTICLE * size, "messages": [{"role": "user", "content": "hi"}]},
        "turns": {"messages": [*turns, {"role": "user", "content": "and now?"}]},
        "results": {"messages": [{"role": "user", "content": "fix it"}, *results]},
        "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": ARTICLE * 4}] * size}]},
        "tools": {
            "messages": [{"role": "user", "content": "hi"}],
            "tools": tools("say") * size,
            "tool_choice": {"type": "function", "function": {"name": "say"}},
        },
        "prompt": {"prompt": BARE_JS * size},
        "prompts": {"prompt": [ARTICLE] * size},
        "tokens": {"prompt": [7] * size},
        "suffix": {"prompt": "a", "suffix": BARE_JS * size},
    }


@pytest.mark.parametrize("kind", sized(1))
def test_a_longer_request_is_not_read_further(kind: str) -> None:
    def read(size: int) -> int:
        body, taken = sized(size)[kind], Read()
        guess(call("completions" if "prompt" in body else "chat", watched(body, taken)))
        return taken.count

    assert read(4000) == read(400) < 20_000


@pytest.mark.parametrize("kind", sized(1))
def test_a_longer_request_takes_no_longer(kind: str) -> None:
    def seconds(size: int) -> float:
        body = sized(size)[kind]
        asked = call("completions" if "prompt" in body else "chat", body)
        return min(timeit.repeat(lambda: guess(asked), number=20, repeat=15))

    # Were all of it looked at, it would take 200 times as long.
    assert seconds(4000) < 8 * seconds(20)
