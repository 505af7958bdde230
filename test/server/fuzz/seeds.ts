/** Bodies that are good, by the POST route that takes them: what the fuzz tests damage. */

const PARAMETERS = {
  type: "object",
  properties: { city: { type: "string" }, days: { type: "integer" } },
  required: ["city"],
};
const SCHEMA = {
  type: "object",
  properties: {
    name: { type: "string", maxLength: 4 },
    code: { type: "string", pattern: "^[a-z]+$" },
    age: { type: "integer", minimum: 0, maximum: 130 },
    tags: { type: "array", items: { enum: ["a", 1, null] }, maxItems: 2 },
    more: { anyOf: [{ $ref: "#/$defs/leaf" }, { type: "null" }] },
  },
  required: ["name"],
  additionalProperties: false,
  $defs: { leaf: { const: { a: [true] } } },
};

const COMPLETIONS: readonly object[] = [
  { model: "tiny", prompt: "a", max_tokens: 2 },
  {
    prompt: ["a", "bé"],
    n: 2,
    best_of: 2,
    echo: true,
    logprobs: 2,
    prompt_logprobs: 1,
    max_tokens: 2,
    temperature: 0.7,
    top_k: 5,
    top_p: 0.9,
    min_p: 0.1,
    seed: 7,
    stop: ["x", "yz"],
  },
  {
    prompt: [
      [1, 2, 3],
      [4, 5],
    ],
    stream: true,
    stream_options: { include_usage: true, continuous_usage_stats: true },
    max_tokens: 3,
    min_tokens: 1,
    logit_bias: { "5": 1, "257": -100 },
    bad_words: ["ab", "c"],
    stop_token_ids: [9],
    allowed_token_ids: [1, 2, 3, 9],
    repetition_penalty: 1.1,
    presence_penalty: 0.5,
    frequency_penalty: -0.5,
    ignore_eos: true,
    include_stop_str_in_output: true,
    skip_special_tokens: false,
    truncate_prompt_tokens: 2,
    return_token_ids: true,
    priority: 1,
    cache_salt: "s",
    request_id: "mine",
  },
  { prompt: "a", max_tokens: 4, guided_regex: "[a-c]{1,3}|x(y|z)*" },
  { prompt: "a", max_tokens: 4, guided_choice: ["red", "reddish", "é"] },
  {
    prompt: "a",
    max_tokens: 4,
    structured_outputs: { grammar: 'root ::= "<" w ">"\nw ::= [a-z] [^a]?' },
  },
  { prompt: "a", max_tokens: 4, guided_json: SCHEMA, stream: true },
  {
    prompt: ["a", "b"],
    n: 2,
    max_tokens: 8,
    guided_choice: ["ab", "cd"],
    allowed_token_ids: [97, 98, 99, 100, 257],
    bad_words: ["a"],
    min_tokens: 4,
    stop_token_ids: [257],
    logprobs: 1,
  },
];

const CHAT: readonly object[] = [
  { messages: [{ role: "user", content: "a" }], max_tokens: 2 },
  {
    model: "tiny",
    messages: [
      { role: "system", content: "Be brief." },
      { role: "user", content: [{ type: "text", text: "Weather?" }] },
      {
        role: "assistant",
        content: null,
        reasoning: "Hm.",
        tool_calls: [
          {
            id: "call_1",
            type: "function",
            function: { name: "get_weather", arguments: '{"city":"Paris"}' },
          },
        ],
      },
      { role: "tool", tool_call_id: "call_1", content: "21" },
    ],
    tools: [
      {
        type: "function",
        function: {
          name: "get_weather",
          description: "",
          parameters: PARAMETERS,
          strict: false,
        },
      },
    ],
    tool_choice: "auto",
    parallel_tool_calls: false,
    include_reasoning: true,
    thinking_token_budget: 3,
    max_completion_tokens: 4,
  },
  {
    messages: [{ role: "user", content: "a" }],
    tools: [
      {
        type: "function",
        function: { name: "f", parameters: PARAMETERS, strict: true },
      },
      { type: "function", function: { name: "g.h" } },
    ],
    tool_choice: "required",
    max_tokens: 6,
    stream: true,
  },
  {
    messages: [
      { role: "user", content: "a" },
      { role: "assistant", content: "b" },
    ],
    add_generation_prompt: false,
    continue_final_message: true,
    chat_template:
      "{% for m in messages %}{{ m.content }}{% endfor %}{{ documents }}",
    chat_template_kwargs: { enable_thinking: false },
    documents: [],
    reasoning_effort: "low",
    logprobs: true,
    top_logprobs: 2,
    n: 2,
    stream: true,
    stream_options: { include_usage: true },
    max_tokens: 2,
  },
  {
    messages: [{ role: "user", content: "a" }],
    response_format: {
      type: "json_schema",
      json_schema: { name: "x", strict: true, schema: SCHEMA },
    },
    max_tokens: 4,
  },
  {
    messages: [{ role: "user", content: "a" }],
    response_format: { type: "json_object" },
    max_tokens: 4,
  },
];

const MESSAGE: object = {
  model: "tiny",
  max_tokens: 4,
  system: [{ type: "text", text: "Be brief." }],
  thinking: { type: "enabled", budget_tokens: 3 },
  messages: [
    { role: "user", content: "Weather?" },
    {
      role: "assistant",
      content: [
        { type: "thinking", thinking: "Hm.", signature: "" },
        { type: "text", text: "I look." },
        { type: "tool_use", id: "1", name: "get_weather", input: { city: "" } },
      ],
    },
    {
      role: "user",
      content: [
        { type: "tool_result", tool_use_id: "1", content: "21" },
        { type: "text", text: "So?" },
      ],
    },
  ],
  tools: [{ name: "get_weather", description: "", input_schema: PARAMETERS }],
  tool_choice: { type: "auto", disable_parallel_tool_use: true },
};
const MESSAGES: readonly object[] = [
  MESSAGE,
  {
    model: "tiny",
    max_tokens: 2,
    messages: [{ role: "user", content: "a" }],
    stream: true,
    stop_sequences: ["x"],
    temperature: 1,
    top_p: 0.9,
    top_k: 5,
    metadata: { user_id: "u" },
    seed: 1,
  },
  {
    model: "tiny",
    max_tokens: 4,
    messages: [{ role: "user", content: "a" }],
    output_config: {
      format: { type: "json_schema", schema: SCHEMA },
      effort: "low",
    },
  },
];

/** Of POST /v1/responses, and with `type` of its WebSocket. resp_0 and msg_0 stand for ids that it gave: see KnownIds. */
export const RESPONSES: readonly object[] = [
  { input: "a", max_output_tokens: 2 },
  {
    model: "tiny",
    instructions: "b",
    input: [
      { role: "user", content: [{ type: "input_text", text: "a" }] },
      { type: "function_call", call_id: "c", name: "f", arguments: "{}" },
      { type: "function_call_output", call_id: "c", output: "1" },
      { type: "reasoning", summary: [], content: [] },
    ],
    tools: [{ type: "function", name: "f", parameters: PARAMETERS }],
    tool_choice: "auto",
    max_output_tokens: 2,
    metadata: { a: "b" },
  },
  {
    input: "a",
    stream: true,
    stream_options: { include_obfuscation: false },
    temperature: 0.5,
    top_p: 0.9,
    top_logprobs: 2,
    include: ["message.output_text.logprobs"],
    truncation: "auto",
    store: false,
    reasoning: { effort: "low", summary: "auto" },
    text: { format: { type: "text" }, verbosity: "medium" },
    stop: ["x"],
    logit_bias: { "5": 1 },
    max_output_tokens: 2,
  },
  { input: "b", previous_response_id: "resp_0", max_output_tokens: 1 },
  { input: [{ type: "item_reference", id: "msg_0" }], max_output_tokens: 1 },
  {
    input: "a",
    text: { format: { type: "json_schema", name: "x", schema: SCHEMA } },
    max_output_tokens: 4,
  },
  {
    input: "a",
    tools: [{ type: "function", name: "f", parameters: PARAMETERS }],
    tool_choice: { type: "function", name: "f" },
    max_output_tokens: 4,
    stream: true,
  },
];

const EMBEDDINGS: readonly object[] = [
  { model: "tiny-encoder", input: "a cat", user: "me" },
  {
    input: ["the dog", [5, 6, 7], "the red bird"],
    encoding_format: "base64",
    dimensions: 4,
    truncate_prompt_tokens: -1,
    add_special_tokens: true,
  },
  { input: [5, 6], encoding_format: "float", normalize: false },
  { input: [[5], [6, 7]], truncate_prompt_tokens: 3, use_activation: false },
];

const RERANKS: readonly object[] = [
  { model: "tiny-encoder", query: "a cat", documents: ["a dog", "a bird"] },
  {
    query: "a cat",
    documents: [{ text: "the mat" }, "the tree", "the house"],
    top_n: 2,
    return_documents: false,
    truncate_prompt_tokens: 8,
    use_activation: false,
    user: "me",
  },
];

const SCORES: readonly object[] = [
  { model: "tiny-encoder", text_1: "a cat", text_2: "a dog" },
  { text_1: "a cat", text_2: ["a dog", "a bird"], use_activation: false },
  { text_1: ["a", "b"], text_2: ["c", "d"], truncate_prompt_tokens: -1 },
  { queries: "a", documents: ["c", "d"], activation: true },
];

/** By path as /openapi.json writes it. A POST route without its entry fails the test. */
export const POST_SEEDS: Readonly<Record<string, readonly object[]>> = {
  "/v1/completions": COMPLETIONS,
  "/v1/chat/completions": CHAT,
  "/v1/messages": MESSAGES,
  "/v1/messages/count_tokens": MESSAGES,
  "/v1/responses": RESPONSES,
  "/v1/responses/input_tokens": RESPONSES,
  "/v1/responses/{id}/cancel": [{}],
  "/v1/embeddings": EMBEDDINGS,
  "/v1/rerank": RERANKS,
  "/v2/rerank": RERANKS,
  "/rerank": RERANKS,
  "/v1/score": SCORES,
  "/score": SCORES,
  "/tokenize": [
    { model: "tiny", prompt: "aé", add_special_tokens: true },
    {
      messages: [{ role: "user", content: "a" }],
      add_generation_prompt: true,
      continue_final_message: false,
      chat_template_kwargs: { a: 1 },
      return_token_strs: true,
      tools: [{ type: "function", function: { name: "f" } }],
    },
  ],
  "/detokenize": [{ model: "tiny", tokens: [104, 195, 169, 257] }],
  "/ping": [{}],
  "/reset_prefix_cache": [{}],
};
