import { describe, expect, it } from "vitest";
import { Sequence, SequenceStatus } from "../../src/core/sequence.js";
import { BlockTable } from "../../src/kv/block-table.js";
import { WaitingQueue } from "../../src/scheduler/waiting-queue.js";
import { request } from "../engine/simulation.js";

function waiting(arrivalOrder: number, priority = 0): Sequence {
  return new Sequence(
    request({ prompt: [1], priority }),
    0,
    new BlockTable(),
    arrivalOrder,
  );
}

function drain(queue: WaitingQueue): number[] {
  const order: number[] = [];
  for (let next = queue.pop(); next; next = queue.pop())
    order.push(next.arrivalOrder);
  return order;
}

describe("WaitingQueue", () => {
  it("is first come, first served, whatever the priority, and a preempted sequence is first again", () => {
    const queue = new WaitingQueue("fcfs");
    for (const order of [3, 1, 4, 0]) queue.push(waiting(order, 10 - order));
    expect(queue.pop()?.arrivalOrder).toBe(0);
    queue.push(waiting(2));
    queue.push(waiting(0));
    expect(drain(queue)).toEqual([0, 1, 2, 3, 4]);
  });

  it("puts low priority values first, and the older of equals", () => {
    const queue = new WaitingQueue("priority");
    const priorities = [2, 0, 1, 0, 2, -1];
    priorities.forEach((priority, order) =>
      queue.push(waiting(order, priority)),
    );
    expect(drain(queue)).toEqual([5, 1, 3, 2, 0, 4]);
  });

  it("skips what finished while it waited, and does not keep it", () => {
    const queue = new WaitingQueue("fcfs");
    const all = Array.from({ length: 20 }, (_, order) => waiting(order));
    all.forEach((sequence) => queue.push(sequence));
    for (const sequence of all.filter(
      ({ arrivalOrder }) => arrivalOrder % 3 !== 2,
    )) {
      sequence.status = SequenceStatus.finished;
      queue.noteFinished();
    }
    expect(queue.length).toBe(6);
    expect(drain(queue)).toEqual([2, 5, 8, 11, 14, 17]);
    expect(queue.length).toBe(0);
    expect(queue.peek()).toBeNull();
  });
});
