import {
  TOOL_NAME,
  type CallSink,
  type NameCheck,
  type PayloadReader,
  type Progress,
} from "./payload-reader.js";
import type { Payload } from "./tool-call-format.js";

/** Characters of a key with its markers; longer ones are not found. */
const MAX_KEY = 512;

/** Whether an argument of a tool is declared as a string, and so written without quotes. */
export type StringArguments = (tool: string, argument: string) => boolean;

/**
 * NAME and a marked value per argument, as Qwen3-Coder and GLM write them:
 *
 *   get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>
 *
 * Values are told one by one, as JSON. A value is read as JSON unless its argument is declared as a string or it is none.
 */
export class ElementsPayload implements PayloadReader {
  begun = false;
  private name = "";
  private key: string | null = null;
  private text = "";
  private numArguments = 0;
  private readonly marks: Record<
    "between" | "keyBegin" | "valueEnd" | "end",
    string
  >;
  /** A key up to where its value begins; some models put line breaks between the two markers there. */
  private readonly keyPattern: RegExp;

  constructor(
    payload: Extract<Payload, { kind: "elements" }>,
    private readonly isString: StringArguments,
    private readonly accepts: NameCheck,
    private readonly sink: CallSink,
  ) {
    this.marks = {
      between: payload.between.trim(),
      keyBegin: payload.keyBegin.trim(),
      valueEnd: payload.valueEnd.trim(),
      end: payload.end.trim(),
    };
    const escaped = (text: string): string =>
      text.trim().replace(/[^\w\s]/g, "\\$&");
    const keyEnd = escaped(payload.keyEnd).replace("\\>\\<", "\\>\\s*\\<");
    this.keyPattern = new RegExp(
      `${escaped(payload.keyBegin)}([^]*)${keyEnd}$`,
    );
  }

  get inString(): boolean {
    return this.key !== null;
  }

  push(unit: string): Progress {
    this.text += unit;
    if (!this.begun) return this.pushName();
    if (this.key !== null) return this.pushValue(this.key);
    const { end } = this.marks;
    if (this.text.endsWith(end)) {
      this.sink.callArguments(this.numArguments === 0 ? "{}" : "}");
      this.sink.callEnd();
      return "done";
    }
    // Junk between arguments must not be searched again and again.
    this.text = this.text.slice(-MAX_KEY);
    const key = this.keyPattern.exec(this.text)?.[1];
    if (key === undefined) return "more";
    this.key = key.trim();
    this.text = "";
    return "more";
  }

  cut(): void {
    if (this.begun) this.sink.callEnd();
  }

  /** Without a marker of its own the name ends where the next one begins. */
  private pushName(): Progress {
    const { between, keyBegin, end } = this.marks;
    const stops = between === "" ? [keyBegin, end] : [between];
    const stop = stops.find((mark) => this.text.endsWith(mark));
    if (stop === undefined) return this.text.length > 256 ? "rejected" : "more";
    const name = this.text.slice(0, -stop.length).trim();
    if (!TOOL_NAME.test(name) || !this.accepts(name)) return "rejected";
    this.name = name;
    this.begun = true;
    this.sink.callStart(name);
    this.text = "";
    if (between !== "") return "more";
    // The marker that ended the name is read again, as what it is.
    this.text = stop.slice(0, -1);
    return this.push(stop.slice(-1));
  }

  private pushValue(key: string): Progress {
    const { valueEnd } = this.marks;
    if (!this.text.endsWith(valueEnd)) return "more";
    const value = this.text
      .slice(0, -valueEnd.length)
      .replace(/^\r?\n|\r?\n$/g, "");
    const json = this.isString(this.name, key)
      ? JSON.stringify(value)
      : jsonOrText(value);
    const separator = this.numArguments === 0 ? "{" : ", ";
    this.sink.callArguments(`${separator}${JSON.stringify(key)}: ${json}`);
    this.numArguments++;
    this.key = null;
    this.text = "";
    return "more";
  }
}

function jsonOrText(value: string): string {
  try {
    JSON.parse(value);
    return value.trim();
  } catch {
    return JSON.stringify(value);
  }
}
