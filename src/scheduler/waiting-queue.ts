import { SequenceStatus } from "../core/sequence.js";
import type { Sequence } from "../core/sequence.js";

export type SchedulingPolicy = "fcfs" | "priority";

/**
 * Whether `a` goes before `b`: by priority (lower first; all equal under fcfs), then by arrival. The same order ranks
 * running sequences, so that a preempted one, having arrived before all that were never admitted, comes first again.
 */
export function goesBefore(
  a: Sequence,
  b: Sequence,
  policy: SchedulingPolicy,
): boolean {
  if (policy === "priority" && a.request.priority !== b.request.priority)
    return a.request.priority < b.request.priority;
  return a.arrivalOrder < b.arrivalOrder;
}

/**
 * Sequences that want to be admitted, in the order of `goesBefore`: a binary heap. Those that finish while they wait
 * (aborted) stay until they surface or make up half of the heap.
 */
export class WaitingQueue {
  private heap: Sequence[] = [];
  private numFinished = 0;

  constructor(private readonly policy: SchedulingPolicy) {}

  get length(): number {
    return this.heap.length - this.numFinished;
  }

  push(sequence: Sequence): void {
    this.heap.push(sequence);
    this.siftUp(this.heap.length - 1);
  }

  /** The first in order, or null. */
  peek(): Sequence | null {
    for (;;) {
      const first = this.heap[0];
      if (!first) return null;
      if (first.status !== SequenceStatus.finished) return first;
      this.removeFirst();
      this.numFinished--;
    }
  }

  pop(): Sequence | null {
    const first = this.peek();
    if (first) this.removeFirst();
    return first;
  }

  /** One of the queued sequences has finished. */
  noteFinished(): void {
    this.numFinished++;
    if (this.numFinished * 2 <= this.heap.length) return;
    const left = this.heap.filter(
      (sequence) => sequence.status !== SequenceStatus.finished,
    );
    this.heap = [];
    this.numFinished = 0;
    for (const sequence of left) this.push(sequence);
  }

  private removeFirst(): void {
    const last = this.heap.pop();
    if (!last || this.heap.length === 0) return;
    this.heap[0] = last;
    this.siftDown();
  }

  private siftUp(from: number): void {
    let at = from;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.before(at, parent)) return;
      this.swap(at, parent);
      at = parent;
    }
  }

  private siftDown(): void {
    let at = 0;
    for (;;) {
      let first = at;
      for (let child = 2 * at + 1; child <= 2 * at + 2; child++)
        if (child < this.heap.length && this.before(child, first))
          first = child;
      if (first === at) return;
      this.swap(at, first);
      at = first;
    }
  }

  private before(a: number, b: number): boolean {
    return goesBefore(this.at(a), this.at(b), this.policy);
  }

  private at(i: number): Sequence {
    return this.heap[i] as Sequence;
  }

  private swap(a: number, b: number): void {
    const held = this.at(a);
    this.heap[a] = this.at(b);
    this.heap[b] = held;
  }
}
