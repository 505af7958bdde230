import type {
  CallSink,
  NameCheck,
  PayloadReader,
  Progress,
} from "./payload-reader.js";
import { ValueScanner } from "./value-scanner.js";

type Phase = "open" | "key" | "in-key" | "colon" | "value" | "broken";

/** Models mix these up: either is read where the format has one of them. */
const ARGUMENTS_KEYS = ["arguments", "parameters"];

/** {"name": "f", "arguments": {...}}: keys in any order, further ones ignored. */
export class JsonPayload implements PayloadReader {
  begun = false;
  private phase: Phase = "open";
  private key = "";
  private value = "";
  private scanner = new ValueScanner();
  /** The arguments were told, or are being told. */
  private told = false;
  /** They were not when the value at hand began. */
  private fresh = true;
  /** Arguments that came before the name. */
  private early: string | null = null;

  constructor(
    private readonly keys: {
      readonly nameKey: string;
      readonly argumentsKey: string;
    },
    /** Before the name only the keys of a call may come: an object with others is an answer, and should not wait. */
    private readonly exact: boolean,
    private readonly accepts: NameCheck,
    private readonly sink: CallSink,
  ) {}

  get inString(): boolean {
    return this.phase === "in-key" || this.scanner.inString;
  }

  push(unit: string): Progress {
    switch (this.phase) {
      case "open":
        if (unit !== "{") return "rejected";
        this.phase = "key";
        return "more";
      case "key":
        return this.pushKeyStart(unit);
      case "in-key":
        this.key += unit;
        if (this.scanner.push(unit) === "last") this.phase = "colon";
        return "more";
      case "colon":
        return this.pushColon(unit);
      case "value":
        return this.pushValue(unit);
      case "broken":
        return unit === "}" ? this.finish() : "more";
    }
  }

  cut(): void {
    if (!this.begun) return;
    if (this.phase === "value" && !this.streams) this.takeValue();
    this.sink.callEnd();
  }

  private pushKeyStart(unit: string): Progress {
    if (unit === "}") return this.finish();
    if (/[\s,]/.test(unit)) return "more";
    if (unit !== '"') return this.malformed();
    this.key = unit;
    this.scanner = new ValueScanner();
    this.scanner.push(unit);
    this.phase = "in-key";
    return "more";
  }

  private pushColon(unit: string): Progress {
    if (/\s/.test(unit)) return "more";
    if (unit !== ":") return this.malformed();
    this.key = parsed(this.key) ?? "";
    if (!this.begun && this.exact && !this.isOwnKey()) return "rejected";
    this.value = "";
    this.fresh = !this.told;
    this.scanner = new ValueScanner();
    this.phase = "value";
    return "more";
  }

  private isOwnKey(): boolean {
    const own = [this.keys.nameKey, "type", "id"].includes(this.key);
    return own || this.holdsArguments();
  }

  private holdsArguments(): boolean {
    const { nameKey, argumentsKey } = this.keys;
    if (this.key === argumentsKey) return true;
    const mixedUp = this.key !== nameKey && ARGUMENTS_KEYS.includes(this.key);
    return mixedUp && ARGUMENTS_KEYS.includes(argumentsKey);
  }

  private pushValue(unit: string): Progress {
    if (this.value === "" && /\s/.test(unit)) return "more";
    const place = this.scanner.push(unit);
    if (place !== "after") {
      this.value += unit;
      if (this.streams) this.stream(unit);
      if (place === "inside") return "more";
    }
    if (!this.streams && !this.takeValue()) return "rejected";
    this.phase = "key";
    return place === "after" ? this.pushKeyStart(unit) : "more";
  }

  /** The value at hand is told as it comes: an object (or list) of arguments, the name being known. */
  private get streams(): boolean {
    return (
      this.begun &&
      this.holdsArguments() &&
      this.fresh &&
      /^[{[]/.test(this.value)
    );
  }

  private stream(unit: string): void {
    this.told = true;
    this.sink.callArguments(unit);
  }

  /** A whole value (or what there is of one). False where it shows that this is no call. */
  private takeValue(): boolean {
    if (this.key === this.keys.nameKey) {
      if (this.begun) return true;
      const name = parsed(this.value);
      if (name === null || !this.accepts(name)) return false;
      this.begun = true;
      this.sink.callStart(name);
      if (this.early !== null) this.tell(this.early);
    } else if (this.holdsArguments()) {
      if (this.begun) this.tell(this.value);
      else this.early = this.value;
    }
    return true;
  }

  /** Arguments as an object, or as a string that holds its JSON. */
  private tell(value: string): void {
    if (this.told || value === "" || value === "null") return;
    this.told = true;
    this.sink.callArguments(parsed(value) ?? value);
  }

  private malformed(): Progress {
    if (!this.begun) return "rejected";
    this.phase = "broken";
    return "more";
  }

  private finish(): Progress {
    if (!this.begun) return "rejected";
    if (!this.told) this.sink.callArguments("{}");
    this.sink.callEnd();
    return "done";
  }
}

/** The string that JSON text stands for, or null. */
function parsed(json: string): string | null {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === "string" ? value : null;
  } catch {
    return null;
  }
}
