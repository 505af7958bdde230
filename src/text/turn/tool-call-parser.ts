/**
 * Finds tool calls in text that arrives in pieces. What it tells is a function of the whole text, never of how it was
 * cut: the machine takes one UTF-16 unit after the other.
 *
 *            marker                       payload ends
 *   text ------------> between --------> payload --------> between
 *    ^                    |  anything else   |  rejected
 *    +--------------------+------------------+
 *
 * A format without markers (llama3_json, pythonic) may have calls only at the beginning, and only of tools that the
 * request names: everything else that looks like one is the answer. Markers never come out as text.
 */
import { StopStringMatcher } from "../stop-strings.js";
import { ElementsPayload, type StringArguments } from "./elements-payload.js";
import type { TurnSink } from "./events.js";
import { JsonPayload } from "./json-payload.js";
import { NamedPayload } from "./named-payload.js";
import {
  TOOL_NAME,
  type NameCheck,
  type PayloadReader,
} from "./payload-reader.js";
import { PythonPayload } from "./python-payload.js";
import {
  isList,
  payloadStart,
  markersOf,
  type Markers,
  type ToolCallFormat,
} from "./tool-call-format.js";

/** What parsers need to know of the request's tools. */
export interface KnownTools {
  readonly names: ReadonlySet<string>;
  readonly isString: StringArguments;
}

type State = "start" | "text" | "between" | "payload";

export class ToolCallParser {
  private readonly markers: Markers;
  private readonly list: boolean;
  private state: State;
  private matcher: StopStringMatcher | null = null;
  private payload: PayloadReader | null = null;
  /** Units since the last certain text that are text after all if no call comes of them. */
  private raw = "";
  /** White space after text: it belongs to the text only if more text follows. */
  private space = "";
  private said = false;
  private numCalls = 0;

  constructor(
    private readonly format: ToolCallFormat,
    private readonly tools: KnownTools,
    private readonly sink: Pick<
      TurnSink,
      "text" | "callStart" | "callArguments" | "callEnd"
    >,
  ) {
    this.markers = markersOf(format);
    this.list = isList(format);
    this.state = this.markers.bare ? "start" : "text";
    this.resetMatcher();
  }

  push(text: string): void {
    for (let i = 0; i < text.length; i++) this.throughMarkers(text.charAt(i));
  }

  /** The end of the output: a call that has begun ends as it is; what was held back is text where it can be. */
  end(): void {
    const held = this.matcher?.flush() ?? "";
    if (this.state === "payload") {
      for (let i = 0; i < held.length; i++) this.toPayload(held.charAt(i));
      if (this.payload !== null) this.endPayload();
    } else {
      // The beginning of a marker after a call is one that was cut off.
      this.say(this.raw + (this.numCalls > 0 ? "" : held));
    }
    this.raw = "";
    if (this.numCalls === 0) this.sink.text(this.space);
    this.space = "";
  }

  /** Before anything else of a format whose calls have no marker. */
  private atStart(unit: string): void {
    const opensList = this.list && unit === "[";
    if (/\s/.test(unit) || opensList) {
      this.raw += unit;
      if (opensList) this.state = "between";
    } else if (unit === payloadStart(this.format)) {
      this.openPayload(unit);
    } else {
      this.toText();
      this.say(unit);
    }
  }

  /** After a marker, a bracket or a call: the next call, the punctuation around it, or text. */
  private atBetween(unit: string): void {
    if (/\s/.test(unit) || this.isPunctuation(unit)) {
      // What stands around calls is no text, only what may still turn out to be no call.
      if (this.markers.bare && this.numCalls === 0) this.raw += unit;
      return;
    }
    const start = payloadStart(this.format);
    const opens =
      start === null ? this.list && /[A-Za-z_]/.test(unit) : unit === start;
    if (opens) {
      this.openPayload(unit);
      return;
    }
    this.toText();
    this.say(unit);
  }

  private isPunctuation(unit: string): boolean {
    if (this.list) return ",[]".includes(unit) && !this.atListEnd(unit);
    return this.markers.bare && this.numCalls > 0 && ";,".includes(unit);
  }

  /** Nothing but white space came after the bracket that opened a list: `[]` is text. */
  private atListEnd(unit: string): boolean {
    return unit === "]" && this.numCalls === 0 && this.markers.bare;
  }

  private throughMarkers(unit: string): void {
    const { matcher } = this;
    const inString =
      this.state === "payload" && (this.payload?.inString ?? false);
    if (matcher === null || (inString && !matcher.holding)) {
      this.certain(unit);
      return;
    }
    const { text, stopped } = matcher.push(unit);
    for (let i = 0; i < text.length; i++) this.certain(text.charAt(i));
    if (stopped !== null) this.atMarker(stopped);
  }

  /** A unit that belongs to no marker. */
  private certain(unit: string): void {
    switch (this.state) {
      case "start":
        return this.atStart(unit);
      case "text":
        return this.say(unit);
      case "between":
        return this.atBetween(unit);
      case "payload":
        return this.toPayload(unit);
    }
  }

  private atMarker(marker: string): void {
    if (this.payload !== null) this.endPayload();
    this.raw = "";
    this.resetMatcher();
    if (marker !== this.markers.opens) {
      // White space after calls is no text.
      this.state = this.numCalls > 0 ? "between" : "text";
      return;
    }
    this.state = "between";
    // Payloads that begin with a name have no bracket to wait for.
    if (payloadStart(this.format) === null && !this.list) this.openPayload();
  }

  /** @param first the unit that shows that a payload begins, a part of it */
  private openPayload(first?: string): void {
    this.payload = this.newPayload();
    this.state = "payload";
    if (first !== undefined) this.toPayload(first);
  }

  private newPayload(): PayloadReader {
    const { payload } = this.format;
    const { bare } = this.markers;
    const { names, isString } = this.tools;
    const accepts: NameCheck = bare
      ? (name) => names.has(name)
      : (name) => TOOL_NAME.test(name);
    switch (payload.kind) {
      case "json":
        return new JsonPayload(payload, bare, accepts, this.sink);
      case "named":
        return new NamedPayload(payload.between, accepts, this.sink);
      case "elements":
        return new ElementsPayload(payload, isString, accepts, this.sink);
      case "python":
        return new PythonPayload(accepts, this.sink);
    }
  }

  private toPayload(unit: string): void {
    const { payload } = this;
    if (payload === null) return this.certain(unit);
    const wasCall = payload.begun;
    if (!wasCall) this.raw += unit;
    const progress = payload.push(unit);
    if (!wasCall && payload.begun) this.callBegan();
    if (progress === "more") return;
    this.payload = null;
    if (progress === "rejected") this.toText();
    else this.state = "between";
  }

  private callBegan(): void {
    this.numCalls++;
    this.raw = "";
    if (!this.said) this.space = "";
  }

  /** The payload's end did not come: a call is told as far as it got, anything else is text. */
  private endPayload(): void {
    const { payload } = this;
    this.payload = null;
    if (payload === null) return;
    if (payload.begun) payload.cut();
    else this.toText();
    this.raw = "";
  }

  private toText(): void {
    this.state = "text";
    let text = this.raw;
    // A string of something that was no call may have held some.
    for (const marker of this.markers.all) text = text.replaceAll(marker, "");
    this.say(text);
    this.raw = "";
  }

  private say(text: string): void {
    const end = text.trimEnd().length;
    if (end > 0) {
      this.sink.text(this.space + text.slice(0, end));
      this.space = "";
      this.said = true;
    }
    this.space += text.slice(end);
  }

  private resetMatcher(): void {
    const { all } = this.markers;
    this.matcher = all.length > 0 ? new StopStringMatcher(all) : null;
  }
}
