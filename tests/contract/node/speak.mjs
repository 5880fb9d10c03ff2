// Speaks to a gateway as a Node application does, and prints what it got as JSON: node speak.mjs BASE_URL MODEL
import OpenAI from "openai";

const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const tools = ["weather", "clock"].map((name) => ({
  type: "function",
  function: {
    name,
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
}));

const messages = [{ role: "user", content: "Use weather and clock in parallel" }];
const stream = client.chat.completions.stream({ model, messages, tools, stream_options: { include_usage: true } });
let fragments = 0;
for await (const chunk of stream) fragments += chunk.choices[0]?.delta.tool_calls?.length ?? 0;
const first = await stream.finalChatCompletion();
const calls = first.choices[0].message.tool_calls;

const results = calls.map((call) => ({ role: "tool", tool_call_id: call.id, content: `the ${call.function.name} says 7` }));
const again = await client.chat.completions.create({
  model,
  messages: [...messages, first.choices[0].message, ...results],
  tools,
  stream: true,
});
let text = "";
for await (const chunk of again) text += chunk.choices[0]?.delta.content ?? "";

const { data: plain, response } = await client.chat.completions
  .create({ model, messages: [{ role: "user", content: "say exactly: héllo 🙂" }] })
  .withResponse();

const refused = await client.chat.completions
  .create({ model, messages: [] })
  .then(() => null, (error) => ({ name: error.constructor.name, status: error.status, param: error.param }));

console.log(
  JSON.stringify({
    fragments,
    finish: first.choices[0].finish_reason,
    usage: first.usage,
    calls: calls.map((call) => ({ name: call.function.name, arguments: JSON.parse(call.function.arguments) })),
    text,
    plain: plain.choices[0].message.content,
    model: response.headers.get("x-talaria-model"),
    refused,
  }),
);
