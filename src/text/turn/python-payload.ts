import type {
  CallSink,
  NameCheck,
  PayloadReader,
  Progress,
} from "./payload-reader.js";
import { pythonLiteralToJson } from "./python-literal.js";

const MAX_NAME = 128;

/** What is read as the name of a function. */
export const PYTHON_NAME = /^[A-Za-z_][\w.-]*$/;

/** f(x=1, y="a"): arguments by keyword, told one by one as JSON. A value that is no literal is told as its text. */
export class PythonPayload implements PayloadReader {
  begun = false;
  private name = "";
  /** Of the argument at hand: `x=1`, so far. */
  private text = "";
  private quote: string | null = null;
  private escaped = false;
  private depth = 0;
  private numArguments = 0;

  constructor(
    private readonly accepts: NameCheck,
    private readonly sink: CallSink,
  ) {}

  get inString(): boolean {
    return this.quote !== null;
  }

  push(unit: string): Progress {
    if (!this.begun) return this.pushName(unit);
    if (this.quote !== null) {
      if (this.escaped) this.escaped = false;
      else if (unit === "\\") this.escaped = true;
      else if (unit === this.quote) this.quote = null;
    } else if (unit === '"' || unit === "'") this.quote = unit;
    else if ("([{".includes(unit)) this.depth++;
    else if (this.depth > 0 && ")]}".includes(unit)) this.depth--;
    else if (this.depth === 0 && unit === ",") {
      this.tellArgument();
      return "more";
    } else if (unit === ")") {
      this.tellArgument();
      this.sink.callArguments(this.numArguments === 0 ? "{}" : "}");
      this.sink.callEnd();
      return "done";
    }
    this.text += unit;
    return "more";
  }

  cut(): void {
    if (this.begun) this.sink.callEnd();
  }

  private pushName(unit: string): Progress {
    if (unit === "(") {
      if (!this.accepts(this.name)) return "rejected";
      this.begun = true;
      this.sink.callStart(this.name);
      return "more";
    }
    this.name += unit;
    const good = /[\w.-]/.test(unit) && this.name.length <= MAX_NAME;
    return good ? "more" : "rejected";
  }

  private tellArgument(): void {
    const text = this.text.trim();
    this.text = "";
    if (text === "") return;
    const match = /^([A-Za-z_]\w*)\s*=(?!=)([^]*)$/.exec(text);
    // An argument without a keyword has no place in a JSON object but under its number.
    const key = match?.[1] ?? String(this.numArguments);
    const value = (match?.[2] ?? text).trim();
    const json = pythonLiteralToJson(value) ?? JSON.stringify(value);
    const separator = this.numArguments === 0 ? "{" : ", ";
    this.sink.callArguments(`${separator}${JSON.stringify(key)}: ${json}`);
    this.numArguments++;
  }
}
