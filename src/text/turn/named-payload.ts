import {
  TOOL_NAME,
  type CallSink,
  type NameCheck,
  type PayloadReader,
  type Progress,
} from "./payload-reader.js";
import { ValueScanner } from "./value-scanner.js";

/** NAME, a marker, and the arguments as JSON: `get_weather>{"city": "Paris"}`. */
export class NamedPayload implements PayloadReader {
  begun = false;
  private head = "";
  private numUnits = 0;
  private readonly scanner = new ValueScanner();
  private readonly between: string;

  constructor(
    between: string,
    private readonly accepts: NameCheck,
    private readonly sink: CallSink,
  ) {
    this.between = between.trim();
  }

  get inString(): boolean {
    return this.begun && this.scanner.inString;
  }

  push(unit: string): Progress {
    if (!this.begun) return this.pushHead(unit);
    if (this.numUnits === 0 && /\s/.test(unit)) return "more";
    const place = this.scanner.push(unit);
    if (place === "after") return this.finish();
    this.numUnits++;
    this.sink.callArguments(unit);
    return place === "last" ? this.finish() : "more";
  }

  cut(): void {
    if (this.begun) this.sink.callEnd();
  }

  /** Without a marker in between the first brace of the arguments ends the name. */
  private pushHead(unit: string): Progress {
    const brace = this.between === "" && unit === "{";
    if (!brace) this.head += unit;
    if (brace || (this.between !== "" && this.head.endsWith(this.between))) {
      const end = this.head.length - this.between.length;
      const name = this.head.slice(0, end).trim();
      if (!TOOL_NAME.test(name) || !this.accepts(name)) return "rejected";
      this.begun = true;
      this.sink.callStart(name);
      return brace ? this.push(unit) : "more";
    }
    return this.head.length > 256 ? "rejected" : "more";
  }

  private finish(): Progress {
    if (this.numUnits === 0) this.sink.callArguments("{}");
    this.sink.callEnd();
    return "done";
  }
}
