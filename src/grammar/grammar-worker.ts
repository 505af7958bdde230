import os from "node:os";

/** A third of a thread's usual share of a core that both want. */
const NICENESS = 5;

/**
 * A compilation keeps a core busy for hundreds of milliseconds, where the processor computes the model one of its own: an
 * equal share would double the steps meanwhile. Masks don't suffer: a step that waits for them leaves its cores idle. On
 * Linux a thread has a priority of its own; elsewhere it would be the whole process's.
 */
function makeWay(): void {
  if (process.platform !== "linux") return;
  try {
    os.setPriority(NICENESS);
  } catch {
    // Where it is forbidden, everything works with equal shares.
  }
}

// Before anything else is loaded: reading and compiling the modules is work that can wait, too.
makeWay();
const { serve } = await import("./worker-service.js");
await serve();
