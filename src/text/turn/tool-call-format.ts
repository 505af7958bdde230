/**
 * How a model writes tool calls. Every format is the same frame with one of a few payloads in it:
 *
 *   text  sectionBegin  callBegin PAYLOAD callEnd  separator  callBegin PAYLOAD callEnd  sectionEnd
 *
 *   hermes      <tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>
 *   mistral     [TOOL_CALLS][{"name": "f", "arguments": {"x": 1}}]
 *   llama3_json {"name": "f", "parameters": {"x": 1}}
 *   pythonic    [f(x=1), g()]
 *
 * The strings are spelled as the chat template spells them, white space included: that is how constrained calls are
 * written. Readers look for the markers without the white space.
 */
export type Payload =
  /** An object with the name and the arguments in it, in any order. */
  | {
      readonly kind: "json";
      readonly nameKey: string;
      readonly argumentsKey: string;
    }
  /** The name, `between`, and the arguments' JSON. */
  | { readonly kind: "named"; readonly between: string }
  /** The name, and one marked value per argument: text for strings, JSON for the rest. */
  | {
      readonly kind: "elements";
      readonly between: string;
      readonly keyBegin: string;
      readonly keyEnd: string;
      readonly valueEnd: string;
      /** After the last value, before callEnd. */
      readonly end: string;
    }
  /** f(x=1) */
  | { readonly kind: "python" };

export interface ToolCallFormat {
  readonly sectionBegin: string;
  readonly sectionEnd: string;
  readonly callBegin: string;
  readonly callEnd: string;
  readonly separator: string;
  readonly payload: Payload;
  /** The template takes one call a turn. */
  readonly single: boolean;
  /** Markers that models put before calls though the template does not. */
  readonly hints: readonly string[];
  /** Call ids that the template takes: 9 letters and digits (Mistral), or any. */
  readonly shortIds: boolean;
}

const BARE = {
  sectionBegin: "",
  sectionEnd: "",
  callBegin: "",
  callEnd: "",
  separator: "",
  single: false,
  shortIds: false,
  hints: [],
} as const;

const HERMES: ToolCallFormat = {
  ...BARE,
  callBegin: "<tool_call>\n",
  callEnd: "\n</tool_call>",
  separator: "\n",
  payload: { kind: "json", nameKey: "name", argumentsKey: "arguments" },
};

const QWEN3_XML: ToolCallFormat = {
  ...BARE,
  callBegin: "<tool_call>\n<function=",
  callEnd: "\n</tool_call>",
  separator: "\n",
  payload: {
    kind: "elements",
    between: ">\n",
    keyBegin: "<parameter=",
    keyEnd: ">\n",
    valueEnd: "\n</parameter>\n",
    end: "</function>",
  },
};

/** What --tool-call-parser takes; the names are vLLM's. */
export const TOOL_CALL_FORMATS: Readonly<Record<string, ToolCallFormat>> = {
  hermes: HERMES,
  qwen3: HERMES,
  qwen3_xml: QWEN3_XML,
  qwen3_coder: QWEN3_XML,
  llama3_json: {
    ...BARE,
    separator: "; ",
    hints: ["<|python_tag|>"],
    payload: { kind: "json", nameKey: "name", argumentsKey: "parameters" },
  },
  mistral: {
    ...BARE,
    sectionBegin: "[TOOL_CALLS] [",
    sectionEnd: "]",
    separator: ", ",
    payload: { kind: "json", nameKey: "name", argumentsKey: "arguments" },
    shortIds: true,
  },
  deepseek_v3: {
    ...BARE,
    sectionBegin: "<｜tool▁calls▁begin｜>",
    sectionEnd: "<｜tool▁calls▁end｜>",
    callBegin: "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
    callEnd: "\n```<｜tool▁call▁end｜>",
    separator: "\n",
    payload: { kind: "named", between: "\n```json\n" },
  },
  glm45: {
    ...BARE,
    callBegin: "<tool_call>",
    separator: "",
    payload: {
      kind: "elements",
      between: "",
      keyBegin: "<arg_key>",
      keyEnd: "</arg_key><arg_value>",
      valueEnd: "</arg_value>",
      end: "</tool_call>",
    },
  },
  pythonic: {
    ...BARE,
    sectionBegin: "[",
    sectionEnd: "]",
    separator: ", ",
    payload: { kind: "python" },
  },
};

/** A list of calls without any marker: what calls that must come are written in where a grammar cannot hold the model's own format. */
export const JSON_LIST: ToolCallFormat = {
  ...BARE,
  sectionBegin: "[",
  sectionEnd: "]",
  separator: ", ",
  payload: { kind: "json", nameKey: "name", argumentsKey: "parameters" },
};

/** The markers in a string of a format: its words, without the brackets of a list. */
function markersIn(text: string): string[] {
  return text
    .split(/\s+/)
    .map((word) => word.replace(/^\]|\[$/g, ""))
    .filter((word) => word !== "");
}

/** What readers look for. */
export interface Markers {
  /** Every marker, none twice. */
  readonly all: readonly string[];
  /** The one after which a call is expected, or null where calls have none. */
  readonly opens: string | null;
  /** Nothing announces a call. */
  readonly bare: boolean;
}

export function markersOf(format: ToolCallFormat): Markers {
  const begin = [
    ...markersIn(format.sectionBegin),
    ...markersIn(format.callBegin),
  ];
  const end = [...markersIn(format.callEnd), ...markersIn(format.sectionEnd)];
  const all = new Set([...begin, ...end, ...format.hints]);
  return {
    all: [...all],
    opens: begin.at(-1) ?? format.hints[0] ?? null,
    bare: begin.length === 0,
  };
}

/** The character that payloads begin with, or null where they begin with a name. */
export function payloadStart({ payload }: ToolCallFormat): string | null {
  return payload.kind === "json" ? "{" : null;
}

/** Calls stand in a JSON (or Python) list. */
export function isList(format: ToolCallFormat): boolean {
  return format.sectionBegin.trimEnd().endsWith("[");
}
