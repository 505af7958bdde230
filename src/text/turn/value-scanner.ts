/** Where the next character stands: in the value, at its last character, or (numbers and words) past its end. */
export type ValuePlace = "inside" | "last" | "after";

/**
 * Finds the end of one JSON value, a UTF-16 unit at a time. Brackets and strings are followed and nothing else is
 * checked: what a model writes between them is passed on as it is.
 */
export class ValueScanner {
  private depth = 0;
  private string = false;
  private escaped = false;
  private started = false;
  private loose = false;

  /** Inside of a string of JSON, where markers of the format are data. A raw line break shows that it is none. */
  get inString(): boolean {
    return this.string && !this.loose;
  }

  push(unit: string): ValuePlace {
    if (this.string) return this.pushString(unit);
    switch (unit) {
      case '"':
        this.string = true;
        this.started = true;
        return "inside";
      case "{":
      case "[":
        this.depth++;
        this.started = true;
        return "inside";
      case "}":
      case "]":
        if (this.depth === 0) return "after";
        this.depth--;
        return this.depth === 0 ? "last" : "inside";
      default:
        if (this.depth === 0 && this.started && /[\s,]/.test(unit))
          return "after";
        this.started = true;
        return "inside";
    }
  }

  private pushString(unit: string): ValuePlace {
    if (this.escaped) this.escaped = false;
    else if (unit === "\\") this.escaped = true;
    else if (unit === '"') {
      this.string = false;
      this.loose = false;
      return this.depth === 0 ? "last" : "inside";
    }
    if (unit < " ") this.loose = true;
    return "inside";
  }
}
