import { OctavoError } from "../core/errors.js";
import { EventKind } from "../core/events.js";
import type { FinishReason, Request } from "../core/request.js";
import { SequenceStatus } from "../core/sequence.js";
import type { Sequence } from "../core/sequence.js";
import type { KVCacheManager } from "../kv/kv-cache-manager.js";
import { RequestGroup } from "./request-group.js";
import type { RunningList } from "./running-list.js";
import type { SchedulerReport } from "./scheduler-config.js";
import type { WaitingQueue } from "./waiting-queue.js";

/** The requests that have not ended, and the one place where their choices end. */
export class UnfinishedRequests {
  /** Choices that have not ended, of all requests. */
  numChoices = 0;
  private readonly groups = new Map<number, RequestGroup>();
  private nextArrivalOrder = 0;

  constructor(
    private readonly kv: KVCacheManager,
    private readonly running: RunningList,
    private readonly waiting: WaitingQueue,
    private readonly report: SchedulerReport,
  ) {}

  /** Queues the choices that need not wait for another. Throws invalid_request for a handle in use. */
  add(request: Request): void {
    if (this.groups.has(request.handle))
      throw new OctavoError(
        "invalid_request",
        `handle ${request.handle} names a request that is not finished`,
      );
    const group = new RequestGroup(request, this.nextArrivalOrder, this.kv);
    this.nextArrivalOrder += request.n;
    this.numChoices += request.n;
    this.groups.set(request.handle, group);
    for (const sequence of group.ready) this.waiting.push(sequence);
  }

  /** In order of arrival. */
  all(): Iterable<RequestGroup> {
    return this.groups.values();
  }

  get(handle: number): RequestGroup | undefined {
    return this.groups.get(handle);
  }

  groupOf(sequence: Sequence): RequestGroup {
    return this.groups.get(sequence.request.handle) as RequestGroup;
  }

  /** Ends a choice whose last event does not say so. */
  finishWithoutToken(sequence: Sequence, reason: FinishReason): void {
    const { request, choice } = sequence;
    this.report.events.push(
      request.handle,
      choice,
      EventKind.finish,
      -1,
      reason,
      -1,
    );
    this.finish(sequence, reason);
  }

  /** Ends a choice: its blocks are free at once. A running one stays in the running list until `dropFinished`. */
  finish(sequence: Sequence, reason: FinishReason): void {
    const group = this.groupOf(sequence);
    const wasRunning = sequence.status === SequenceStatus.running;
    const wasDeferred = group.deferred.includes(sequence);
    this.numChoices--;
    if (wasRunning) {
      this.running.finish(sequence);
      this.kv.release(sequence);
    } else {
      sequence.status = SequenceStatus.finished;
      if (!wasDeferred) this.waiting.noteFinished();
    }
    const leader = group.noteFinished(sequence);
    if (leader) this.waiting.push(leader);
    if (group.numUnfinished === 0) this.groups.delete(sequence.request.handle);
    this.report.finished.push(sequence);
    this.report.finishReasons.push(reason);
  }
}
