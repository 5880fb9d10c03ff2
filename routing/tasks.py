"""From a request's form to the task it asks for: arithmetic on the ends of its texts, so that length costs nothing.

What speaks for each task is added up in points: phrases of the last user message and of the system prompt (`WORDS`),
what a text looks like once its letters are gone (`SIGNS`, `FIGURES`), and parameters. A classifier that has learned can
take the place of `guess`, whose shape says nothing of how the task is found.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any, NamedTuple

from providers.types import Call, Json

TASKS = (
    *("autocomplete", "code", "explanation", "reasoning", "math", "summarization", "extraction"),
    *("classification", "writing", "chat", "general"),
)


class Guess(NamedTuple):
    task: str
    """One of TASKS."""
    confidence: float
    """How often such a guess is right, roughly."""
    reason: str
    """What told, in words that are never the prompt's."""


HEAD = TAIL = 2000
"""Characters at the ends of a text that are looked at for code and figures."""
FIRST, LAST = 150, 120
"""Those of the last user message whose words are read. A request is made at its beginning or at its end."""
FRAME = 160
"""Those of the system prompt."""
NEAR = 48
"""A phrase this near to an end is the request rather than its matter, and counts twice."""
BACK = 32
"""Messages that are looked at for the user's last one."""

ENOUGH = 3
"""Points without which a request is `general`."""
ASKED = 5
"""Points of a task that is asked for in so many words."""
GREETING, LONG = 80, 1200
"""Characters: a greeting in a longer text is only its beginning, and a text to sum up is no shorter."""
TINY, SHORT = 5, 128
"""Tokens: an answer within the first is a label, one within the second may be the rest of a line."""
UNLIMITED = 1 << 31

SOFTWARE = "software"
"""What phrases speak for that name the matter of code: it takes one of them, or code itself, to ask for code."""


def guess(call: Call) -> Guess:
    """The task that a call asks for, whatever its body holds."""
    match call.operation:
        case "fim":
            return Guess("autocomplete", 0.98, "operation fim")
        case "completions":
            return _completion(call)
        case "chat" | "messages" | "count_tokens":
            return _dialogue(call)
        case other:
            return Guess("general", 0.9, f"operation {other}")


def _completion(call: Call) -> Guess:
    if call.body.get("suffix"):
        return Guess("autocomplete", 0.95, "a suffix")
    prompt = call.body.get("prompt")
    if isinstance(prompt, list) and prompt:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        return Guess("general", 0.3, "a prompt in tokens")
    raw = _ends(prompt)
    if _is_code(_bones(raw), len(raw), least=1) or any(mark in raw for mark in GAPS):
        return Guess("autocomplete", 0.9, "code to go on with")
    points, why = _NOTHING.copy(), dict[str, str]()
    _read(raw, points)
    _look(raw, call.max_output or UNLIMITED, False, points, why)
    return _most(points, why)


def _dialogue(call: Call) -> Guess:
    body = call.body
    messages = body.get("messages")
    if not isinstance(messages, list):
        messages = []
    limit = call.max_output or UNLIMITED
    told = not _TELLING.isdisjoint(body)
    form = _form(body) if told else None
    if form is not None and _is_choice(form):
        return Guess("classification", 0.9, "a schema of labels")
    said, answers = _last_said(messages)
    raw = _ends(said)
    points = _NOTHING.copy()
    _read(raw, points)
    if len(raw) > GREETING:
        points["chat"] = 0
    if frame := _frame(body, messages):
        _read(_latin(frame[:FRAME]), points, near=0)
    if form is not None:
        labels = limit <= TINY or points["classification"] >= ASKED
        return Guess("classification" if labels else "extraction", 0.75, "an answer bound to a form")
    why = dict[str, str]()
    _look(raw, limit, told and _is_coding(body.get("tools")), points, why)
    if answers:
        points["chat"] += 3 if answers == 1 else 5
        why["chat"] = "a conversation"
    if told and _is_effort(body):
        points["reasoning"] += 3
        why["reasoning"] = "reasoning effort"
    if messages and _is_prefilled(messages):
        points["extraction"] += 4
        why["extraction"] = "an answer begun as JSON"
    return _most(points, why)


def _look(raw: bytes, limit: int, agent: bool, points: dict[str, int], why: dict[str, str]) -> None:
    """Adds what a text's looks and the room for an answer speak for, and settles what becomes of SOFTWARE.

    `agent`: the request has tools of a coding agent.
    """
    if limit <= TINY:
        points["classification"] += 4
        why["classification"] = "an answer of a few tokens"
    software = points.pop(SOFTWARE)
    bones = _bones(raw)
    if agent or _is_code(bones, len(raw)):
        if limit <= SHORT and not agent and _opens_as_code(raw):
            points["autocomplete"] += 4
        for task, least in (("code", 0), ("explanation", ASKED), ("autocomplete", ENOUGH)):
            if points[task] >= least:
                points[task] += 5 if agent else 4
                why[task] = "tools of a coding agent" if agent else "code in the text"
        return
    points["code"] = software and points["code"] + software
    if figures := _figures(bones, points["math"]):
        points["math"] += figures
        why["math"] = "figures in the text"
    if len(raw) > LONG and points["summarization"]:
        points["summarization"] += 2
        why["summarization"] = "a long text and few words about it"


def _most(points: dict[str, int], why: dict[str, str]) -> Guess:
    """The task with the most points; among equals the first of TASKS."""
    best, most, second = "general", 0, 0
    for task, count in points.items():
        if count > most:
            best, most, second = task, count, most
        elif count > second:
            second = count
    if most < ENOUGH:
        return _NO_GUESS
    margin = most - second
    confidence = 0.8 if margin >= 6 else 0.7 if margin >= 3 else 0.4 if margin else 0.3
    return Guess(best, confidence, why.get(best) or "words of the request")


_NO_GUESS = Guess("general", 0.5, "nothing that tells")


# --- What a request holds ---


def _last_said(messages: list[Any]) -> tuple[str, int]:
    """The user's last text, and how many answers came shortly before it."""
    for i in range(len(messages) - 1, max(-1, len(messages) - 1 - BACK), -1):
        message = messages[i]
        if isinstance(message, dict) and message.get("role") == "user" and (text := _text(message.get("content"))):
            return text, sum(map(_is_answer, messages[max(0, i - 4) : i])) if i else 0
    return "", 0


def _is_answer(message: Any) -> bool:
    return isinstance(message, dict) and message.get("role") == "assistant" and bool(message.get("content"))


def _is_prefilled(messages: list[Any]) -> bool:
    return _is_answer(messages[-1]) and _text(messages[-1].get("content")).startswith(("{", "["))


def _frame(body: Json, messages: list[Any]) -> str:
    """The system prompt: Anthropic's parameter, or the first message."""
    if system := body.get("system"):
        return _text(system)
    first = messages[0] if messages else None
    return _text(_at(first, "content")) if _at(first, "role") in ("system", "developer") else ""


def _text(content: Any) -> str:
    """A content's text; of several parts, the ends of the first and the last ones."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = content if len(content) <= 8 else content[:4] + content[-4:]
    texts = [text for part in parts if isinstance(text := _at(part, "text"), str)]
    if len(texts) > 1:
        # Editors put what they add about files and settings into parts of their own, wrapped in a tag.
        texts = [text for text in texts if not text.startswith("<")] or texts
    if len(texts) == 1:
        return texts[0]
    return "\n".join(text if len(text) <= HEAD else f"{text[:FIRST]}\n{text[-LAST:]}" for text in texts)


def _form(body: Json) -> Json | None:
    """The JSON Schema that binds the answer, an empty one where it only has to be JSON; None for a free answer."""
    asked = body.get("response_format") or body.get("output_format") or _at(body.get("output_config"), "format")
    if _at(asked, "type") in ("json_object", "json_schema"):
        return _object(_at(asked, "json_schema", "schema") or _at(asked, "schema"))
    choice = body.get("tool_choice") or body.get("function_call")
    tools = body.get("tools") or body.get("functions")
    if not choice or not isinstance(tools, list) or _is_coding(tools):
        return None
    if name := _name(choice):
        tools = [tool for tool in tools[:TOOLS] if _name(tool) == name] or [None]
    elif len(tools) != 1 or (choice != "required" and _at(choice, "type") != "any"):
        return None
    tool = tools[0]
    return _object(_at(tool, "function", "parameters") or _at(tool, "parameters") or _at(tool, "input_schema"))


def _is_choice(schema: Json) -> bool:
    """Whether a schema leaves no more than a choice: labels, yes or no, perhaps how sure and why."""
    if "enum" in schema:
        return True
    properties = schema.get("properties")
    if not isinstance(properties, dict) or len(properties) > 6:
        return False
    defs = schema.get("$defs")
    picks = [_is_pick(value, defs) for value in properties.values()]
    return any(picks) and all(
        pick or name in BESIDE or _at(value, "type") in ("number", "integer")
        for pick, (name, value) in zip(picks, properties.items(), strict=True)
    )


def _is_pick(value: Any, defs: Any) -> bool:
    value = _at(value, "items") or value
    if isinstance(reference := _at(value, "$ref"), str):
        value = _at(defs, reference.rpartition("/")[2])
    return _at(value, "enum") is not None or _at(value, "type") == "boolean"


def _is_coding(tools: Any) -> bool:
    names = [_name(tool) for tool in tools[:TOOLS]] if isinstance(tools, list) else []
    return any(isinstance(name, str) and name.lower() in CODING for name in names)


def _is_effort(body: Json) -> bool:
    thinking = body.get("thinking")
    budget = _at(thinking, "budget_tokens")
    return (
        body.get("reasoning_effort") in EFFORTS
        or _at(body.get("output_config"), "effort") in EFFORTS
        or (isinstance(budget, int) and budget >= BUDGET)
    )


def _name(tool: Any) -> Any:
    return _at(tool, "function", "name") or _at(tool, "custom", "name") or _at(tool, "name")


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _at(value: Any, *keys: str) -> Any:
    """What a path of keys leads to; None where there is nothing."""
    for key in keys:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


# --- What a text looks like ---


def _ends(text: str) -> bytes:
    """Both ends of a text in Latin-1, which has every letter of the languages that are read here."""
    return _latin(text if len(text) <= HEAD + TAIL else f"{text[:HEAD]}\n{text[-TAIL:]}")


def _latin(text: str) -> bytes:
    return text.encode("latin-1", "replace")


def _read(raw: bytes, points: dict[str, int], near: int = NEAR) -> None:
    """Adds what the phrases at both ends of a text speak for."""
    if len(raw) > FIRST + LAST:
        raw = b"%b %b" % (raw[:FIRST], raw[-LAST:])
    text = raw.translate(_FOLDED).decode()
    heard = _TRIGGERS.intersection(text.split())
    if not heard:
        return
    text = f" {text} "
    end = len(text) - near
    for word in heard:
        for phrase, task, weight in _PHRASES[word]:
            at = text.find(phrase)
            if at >= 0:
                points[task] += weight * 2 if at < near or text.rfind(phrase) > end else weight


def _bones(raw: bytes) -> str:
    """What is left of a text without its letters and spaces: marks, ends of lines, and a 0 for each digit."""
    return raw.translate(_ZEROS, _FLESH).decode()


def _is_code(bones: str, length: int, least: int = 2) -> bool:
    """Whether a text has a fence, or enough of the signs; `length` is the text's own."""
    if "```" in bones:
        return True
    if len(bones) * 25 < length or ("$" in bones and "\\" in bones and ";\n" not in bones):  # prose, LaTeX
        return False
    for sign in SIGNS:
        if sign in bones:
            least -= 1
            if not least:
                return True
    return False


def _opens_as_code(raw: bytes) -> bool:
    return raw.startswith(OPENINGS) or raw.partition(b"\n")[0].rstrip().endswith((b"{", b";", b")", b"}", b">"))


def _figures(bones: str, asked: int) -> int:
    """Points for math by digits and signs; `asked` are those of the words."""
    if "0" not in bones and "\\" not in bones:
        return 0
    signs = sum(sign in bones for sign in FIGURES)
    if signs:
        return 5 if signs > 1 else 3
    return 3 if asked and bones.count("0") >= 3 else 0


# --- The tables ---

WORDS: Mapping[str, Mapping[int, str]] = {
    "autocomplete": {
        3: """
            autocomplete, code completion, inline completion, completion engine, fill in the middle, fim, cursor,
            complete the code, complete this code, completes code, continue the code, continue this code
        """,
    },
    "code": {
        2: """
            fix, implement, optimize, optimise, rename, port, migrate, rewrite, convert, behebe, repariere,
            implementiere, optimiere, corriger, corrige, implemente, arregla, implementa, optimiza
        """,
        1: """
            add, remove, replace, change, update, improve, faster, review, build, create, make, write, test, tests,
            erstelle, schreibe, schreib, cree, ajoute, ecris, crea, haz, agrega, escribe
        """,
    },
    SOFTWARE: {
        2: """
            code, coding, codebase, programmer, programming, software developer, refactor, debug, unit test,
            unit tests, stack trace, traceback, compile, compiler, regex, algorithm, api, git, npm, docker,
            dockerfile, kubernetes, python, javascript, typescript, java, kotlin, rust, golang, php, ruby, sql,
            html, css, bash, powershell, django, flask, fastapi, numpy, pandas, quellcode, programmiere, programm,
            skript, funktion, algorithmus, fonction, programme, algorithme, codigo, programa, funcion, algoritmo
        """,
        1: """
            program, script, bug, bugs, function, class, method, variable, component, endpoint, react, query,
            queries, database, array, dictionary, repository, repo, backend, frontend, server, app, library,
            framework, klasse, datenbank, classe, clase, base de datos
        """,
    },
    "explanation": {
        3: """
            explain, explains, explanation, why, what does, what do these, how does, how did, walk me through,
            understand, what happens, what is happening, difference between, differences between,
            what s the difference, meaning of, erklare, erklar, erklaren, warum, wieso, weshalb, was macht,
            wie funktioniert, bedeutet, unterschied zwischen, explique, expliquer, expliquez, pourquoi, que fait,
            comment fonctionne, signifie, difference entre, explica, explicar, explicame, por que, que hace,
            como funciona, significa, diferencia entre, spiega, perche, come funziona
        """,
        2: """
            how do, how can, how could, how is, how are, how to, describe, wie kann ich, beschreibe, comment faire,
            decris, como puedo
        """,
        1: "what is, what are, what s, was ist, was sind, qu est ce, que es, cos e",
    },
    "reasoning": {
        3: """
            step by step, prove, proof, puzzle, riddle, brain teaser, deduce, logically, think carefully,
            reason through, who is lying, tells the truth, schritt fur schritt, beweise, beweisen, ratsel,
            knobelaufgabe, etape par etape, demontre, demontrer, prouve, prouver, enigme, paso a paso, demuestra,
            demostrar, acertijo
        """,
        2: """
            show that, must be true, logic, weigh, trade offs, pros and cons, infer, premise, premises, syllogism,
            contradiction, conclude, knights, liar, zeige dass, logisch, montre que, logique, muestra que, logica
        """,
    },
    "math": {
        3: """
            calculate, compute, integral, derivative, differentiate, equation, equations, polynomial, square root,
            remainder, solve for, factorize, factorise, eigenvalue, eigenvalues, hypotenuse, berechne, berechnen,
            rechne, gleichung, ableitung, wahrscheinlichkeit, quadratwurzel, calcule, calculer, calculez, derivee,
            integrale, probabilite, racine carree, calcula, calcular, ecuacion, derivada, probabilidad,
            raiz cuadrada, calcola
        """,
        2: """
            how many, how much, probability, percent, percentage, divided by, multiplied by, sum of, product of,
            wie viele, wie viel, prozent, geteilt durch, combien, pour cent, divise par, cuantos, cuantas, cuanto,
            por ciento, dividido por, quanto
        """,
        1: """
            solve, evaluate, simplify, total, average, ratio, area, perimeter, volume, triangle, cost, costs, price,
            how old, how far, how long, how fast, times as, twice as, lose, wie alt, wie lange, wie weit, quel age,
            resous, resuelve
        """,
    },
    "summarization": {
        3: """
            summarize, summarise, summarizes, summarizing, summary, summaries, sum up, tl dr, tldr, key points,
            main points, takeaways, recap, condense, in a nutshell, zusammenfassung, zusammenfassen, fasse, fass,
            kurzfassung, resumer, resumez, le resume, un resume, synthese, resumen, resumir, resumelo, resuma,
            riassumi, riassunto
        """,
        2: """
            shorten, shorter, gist, in short, in brief, distill, resume, kernaussagen, in kurze, en bref,
            points cles, en breve, puntos clave, ideas principales
        """,
    },
    "extraction": {
        3: """
            extract, extracts, extraction, pull out, as json, json object, entities, ocr, transcribe, extrahiere,
            extrahieren, entnimm, als json, extrais, extraire, releve, en json, extrae, extraer, estrai
        """,
        2: """
            json, fields, list all, list every, find all, find every, read the, receipt, invoice, in the text,
            from the text, following context, following passage, context below, liste alle, nenne alle, finde alle,
            im text, toutes les, tous les, dans le texte, todos los, todas las, en el texto
        """,
    },
    "classification": {
        3: """
            classify, classifies, classifier, classification, categorize, categorise, sentiment, spam,
            which category, positive or negative, negative or positive, on a scale, yes or no, true or false,
            label only, only the label, klassifiziere, ordne, kategorie, kategorien, positiv oder negativ,
            ja oder nein, classifie, classez, positif ou negatif, oui ou non, clasifica, clasificar,
            positivo o negativo, si o no
        """,
        2: """
            label, labels, category, categories, toxic, intent, stimmung, categorie, categoria, categorias,
            sentimiento
        """,
        1: "one of, topic",
    },
    "writing": {
        3: """
            poem, essay, haiku, limerick, sonnet, short story, blog post, cover letter, slogan, tagline, lyrics,
            screenplay, monologue, translate, translation, translator, rephrase, paraphrase, reword, proofread,
            ubersetze, ubersetzen, gedicht, aufsatz, formuliere, umformulieren, bewerbung, traduis, traduire,
            traduisez, redige, redigez, poeme, reformule, dissertation, traduce, traducir, redacta, poema, ensayo,
            reescribe, cuento, traduci
        """,
        2: """
            write, writes, draft, compose, rewrite, come up with, grammar, wording, sound more, this sound,
            friendlier, more formal, more polite, schreibe, schreib, einen brief, geschichte, rede, ecris, ecrivez,
            lettre, histoire, discours, escribe, carta, historia, discurso, scrivi
        """,
        1: "letter, email, story, tweet, caption, speech, song, novel, article, newsletter",
    },
    "chat": {
        2: """
            hi, hello, hey, good morning, good evening, how are you, how s it going, what s up, thanks, thank you,
            joke, i feel, lonely, bored, hallo, guten morgen, wie geht, alles klar, danke, bonjour, salut, ca va,
            merci, hola, buenos dias, que tal, gracias, ciao, companion, friend, friendly, role play, roleplay,
            persona
        """,
    },
}
"""What a phrase speaks for, and with how many points. Small letters without accents, spaces for all else; in a row
English, German, French, Spanish, a little Italian."""

SIGNS = (
    *(";\n", "{\n", "):\n", "=(", "();", "=>", "){", "</", "::", "(:0", "@@", "==", "={", "&&", "=["),
    *("><", "[]"),
)
"""What code leaves behind without its letters; two different ones will do."""

FIGURES = ("\\", "^", "0%", "0*0", "0+0", "=0", "0=")

GAPS = (b"<fim", b"<|fim", b"<PRE>", b"[SUFFIX]")
"""How models spell a gap in a prompt."""

OPENINGS = (b" ", b"\t", b"import ", b"from ", b"def ", b"class ", b"#include", b"//", b"/*", b"package ", b"@", b"#!")

BESIDE = frozenset({"reason", "reasoning", "rationale", "explanation", "justification", "thought", "evidence"})
"""Properties that say why a label was chosen."""

EFFORTS = ("high", "xhigh", "max")
BUDGET = 8192
"""Tokens to think with from which on they count as a high effort."""

_TELLING = frozenset(
    {
        *("response_format", "output_format", "output_config", "tools", "functions"),
        *("reasoning_effort", "thinking"),
    }
)
"""Parameters without which a request says nothing but its texts."""

TOOLS = 16
"""Tools that are looked at."""
CODING = frozenset(
    {
        *("bash", "shell", "local_shell", "terminal", "run_terminal_cmd", "run_in_terminal", "execute_command"),
        *("edit_file", "multiedit", "str_replace_editor", "str_replace_based_edit_tool", "replace_in_file"),
        *("apply_patch", "apply_diff", "insert_edit_into_file", "write_to_file", "grep", "grep_search", "glob"),
        *("codebase_search", "run_tests"),
    }
)
"""Names, in small letters, that coding agents give their tools."""


def _folded(code: int) -> str:
    """A Latin-1 character as phrases are written: a small letter without its accent, or a space."""
    letter = "s" if chr(code) == "ß" else unicodedata.normalize("NFD", chr(code))[0].lower()
    return letter if letter.isascii() and letter.isalpha() else " "


def _index() -> dict[str, list[tuple[str, str, int]]]:
    """The phrases by their longest word, the one that fewest texts have."""
    found: dict[str, list[tuple[str, str, int]]] = {}
    for task, rows in WORDS.items():
        for weight, row in rows.items():
            for phrase in {" ".join(each.split()) for each in row.split(",")}:
                word = max(reversed(phrase.split()), key=len)
                found.setdefault(word, []).append((f" {phrase} ", task, weight))
    return found


_FOLDED = "".join(map(_folded, range(256))).encode()
_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)
_MARKS = b"$`{}[]();:<>=@&%#/^+*|\\\n0123456789"
_FLESH = bytes(code for code in range(256) if code not in _MARKS)
_PHRASES = _index()
_TRIGGERS = frozenset(_PHRASES)
_NOTHING = dict.fromkeys((*TASKS, SOFTWARE), 0)
