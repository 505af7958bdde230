import type { OctavoError } from "../../core/errors.js";
import { DeltaBuffer } from "../delta-buffer.js";
import { Generation } from "../generation.js";
import type { ServerContext } from "../options.js";
import { ResponseBuilder, type ResponseEvent } from "./builder.js";
import type { ResponseResource } from "./resource.js";
import type { ResponseStore, StoredResponse } from "./store.js";
import type { PreparedTurn } from "./turn.js";

/** Who hears of a response. */
export interface ResponseReader {
  /** To be serialized at once. */
  event(event: ResponseEvent): void;
  /** Nothing comes after this. `error`: why it failed. */
  end(response: ResponseResource, error: OctavoError | null): void;
}

/** A response under way: the one path from a prepared turn to its events, whatever carries them. */
export class ResponseRun {
  readonly generation: Generation;
  private readonly builder: ResponseBuilder;
  private readonly stored: StoredResponse;
  private readonly interval: DeltaBuffer | null;
  private ended = false;

  /**
   * Submits the turn. Throws what the engine refuses with.
   * @param stores where it is kept, from now on and with what comes of it
   */
  constructor(
    context: ServerContext,
    turn: PreparedTurn,
    private readonly stores: readonly ResponseStore[],
    private readonly reader: ResponseReader,
  ) {
    const { response, input, history, historySize, key } = turn;
    this.builder = new ResponseBuilder(turn, (event) => reader.event(event));
    const { streamInterval } = context;
    this.interval = streamInterval > 1 ? new DeltaBuffer(streamInterval) : null;
    this.generation = new Generation(context, turn.specs, {
      onDelta: (index, delta) => {
        const due = this.interval ? this.interval.add(index, delta) : delta;
        if (due !== null) this.builder.push(due, this.generation);
      },
      onEnd: () => this.end(null),
      onFailure: (error) => {
        this.tellRest();
        if (this.underWay) this.builder.fail(error, this.generation);
        this.end(error);
      },
    });
    const cancel = (): void => this.cancel();
    const forget = (): void => {
      for (const store of stores) store.remove(response.id);
    };
    this.stored = {
      response,
      key,
      input,
      history,
      historySize,
      cancel,
      forget,
    };
    for (const store of stores) store.put(this.stored);
  }

  get response(): ResponseResource {
    return this.builder.response;
  }

  /** The last event has not been told. A stop string ends a response before the engine hears of it. */
  get underWay(): boolean {
    return this.response.status === "in_progress";
  }

  /** Tells that it has begun. */
  begin(): void {
    this.builder.begin();
  }

  /** Stops it: its readers are told. */
  cancel(): void {
    if (!this.underWay) return;
    this.generation.abort();
    this.tellRest();
    this.builder.cancel(this.generation);
    this.end(null);
  }

  /** What came and has not been told. */
  private tellRest(): void {
    const rest = this.interval?.take(0) ?? null;
    if (rest !== null) this.builder.push(rest, this.generation);
  }

  private end(error: OctavoError | null): void {
    if (this.ended) return;
    this.ended = true;
    for (const store of this.stores) store.refresh(this.stored);
    this.reader.end(this.response, error);
  }
}
