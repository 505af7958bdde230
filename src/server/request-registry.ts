import { OctavoError } from "../core/errors.js";
import { now } from "../core/config.js";
import type { Meters } from "./meters.js";
import type { RequestOrigin } from "./origin.js";
import { RequestTimeline, type TimelineFacts } from "./request-timeline.js";

/** Hears of every prompt that has ended. */
export type EndListener = (
  timeline: RequestTimeline,
  record: RequestRecord,
) => void;

/** One HTTP request's generation: a timeline per prompt. */
export class RequestRecord {
  readonly timelines: RequestTimeline[] = [];
  /** Milliseconds, Request.arrivalTime's clock. */
  readonly startTime: number = now();
  /** No more prompts come. */
  private sealed = false;

  constructor(
    readonly id: string,
    readonly origin: RequestOrigin,
    private readonly meters: Meters | null,
    private readonly onPromptEnd: EndListener,
    private readonly onEnd: (record: RequestRecord) => void,
  ) {}

  get ended(): boolean {
    return this.sealed && this.timelines.every(({ ended }) => ended);
  }

  /** A prompt that the engine has taken. */
  submitted(facts: TimelineFacts): RequestTimeline {
    const timeline = this.add(facts);
    timeline.submitted();
    return timeline;
  }

  /** A prompt that the engine has not taken. */
  refused(facts: TimelineFacts, error: unknown): void {
    const known =
      error instanceof OctavoError
        ? error
        : new OctavoError("internal_error", String(error));
    this.add(facts).refused(known);
  }

  seal(): void {
    this.sealed = true;
    if (this.ended) this.onEnd(this);
  }

  private add(facts: TimelineFacts): RequestTimeline {
    const timeline: RequestTimeline = new RequestTimeline(
      facts,
      this.meters,
      () => {
        this.onPromptEnd(timeline, this);
        if (this.ended) this.onEnd(this);
      },
    );
    this.timelines.push(timeline);
    return timeline;
  }
}

/** Requests under way, and the latest of those that have ended: a bounded memory. */
export class RequestRegistry {
  private readonly byName = new Map<string, RequestRecord>();
  /** Ended ones, as a ring. */
  private readonly recent: (RequestRecord | undefined)[];
  private next = 0;

  /** @param capacity how many ended requests are remembered */
  constructor(
    private readonly meters: Meters | null,
    private readonly onPromptEnd: EndListener = () => undefined,
    readonly capacity = 1024,
  ) {
    this.recent = new Array<RequestRecord | undefined>(capacity);
  }

  /** A request by that id of that key; another of the same name is forgotten. */
  begin(id: string, origin: RequestOrigin): RequestRecord {
    const record = new RequestRecord(
      id,
      origin,
      this.meters,
      this.onPromptEnd,
      (ended) => this.remember(ended),
    );
    this.byName.set(nameOf(id, origin.key), record);
    origin.record = record;
    return record;
  }

  /** Keys see only what was sent with them. */
  find(id: string, key: string): RequestRecord | undefined {
    return this.byName.get(nameOf(id, key));
  }

  private remember(record: RequestRecord): void {
    const oldest = this.recent[this.next];
    this.recent[this.next] = record;
    this.next = (this.next + 1) % this.capacity;
    if (oldest === undefined) return;
    const name = nameOf(oldest.id, oldest.origin.key);
    if (this.byName.get(name) === oldest) this.byName.delete(name);
  }
}

/** A key's name holds no line feed, so no id can pass for another key's. */
function nameOf(id: string, key: string): string {
  return `${key}\n${id}`;
}
