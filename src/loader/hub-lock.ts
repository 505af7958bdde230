import { randomUUID } from "node:crypto";
import {
  link,
  mkdir,
  readFile,
  rename,
  rm,
  stat,
  utimes,
  writeFile,
} from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** The holder touches its file this often, ... */
const BEAT_MS = 2_000;
/** ... and is taken for dead when it has not for this long (another host may hold it, whose processes we can't see). */
const DEAD_MS = 30_000;
const POLL_MS = 250;

interface Holder {
  id: string;
  pid: number;
  host: string;
}

/**
 * Runs `work` while no other process runs any under the same lock file. A holder that died is noticed, at once on this
 * host. @param onWait called once where another process holds the lock
 */
export async function withLock<T>(
  file: string,
  work: () => Promise<T>,
  onWait: (pid: number) => void,
  signal: AbortSignal,
): Promise<T> {
  const me: Holder = {
    id: randomUUID(),
    pid: process.pid,
    host: os.hostname(),
  };
  await mkdir(path.dirname(file), { recursive: true });
  let waiting = false;
  while (!(await take(file, me))) {
    const holder = await readHolder(file);
    if (holder && !(await isDead(file, holder))) {
      if (!waiting) onWait(holder.pid);
      waiting = true;
      await sleep(POLL_MS, undefined, { signal });
    } else if (holder) await evict(file, holder);
  }
  const beat = setInterval(() => {
    const now = new Date();
    // Gone only if someone took us for dead; the checksums at the end still guard what is written.
    utimes(file, now, now).catch(() => undefined);
  }, BEAT_MS);
  beat.unref();
  try {
    return await work();
  } finally {
    clearInterval(beat);
    if ((await readHolder(file))?.id === me.id) await rm(file, { force: true });
  }
}

/** Makes the file, or finds another one's there. */
async function take(file: string, me: Holder): Promise<boolean> {
  try {
    await writeFile(file, JSON.stringify(me), { flag: "wx" });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/** Null where the file is gone. */
async function readHolder(file: string): Promise<Holder | null> {
  try {
    return JSON.parse(await readFile(file, "utf8")) as Holder;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    // Just being written, or damaged: nobody can be shown to hold it, so its age decides.
    return { id: "", pid: 0, host: "" };
  }
}

async function isDead(file: string, { pid, host }: Holder): Promise<boolean> {
  if (host === os.hostname() && !isRunning(pid)) return true;
  try {
    return Date.now() - (await stat(file)).mtimeMs > DEAD_MS;
  } catch {
    return false;
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** Two may find the same dead holder; the slower one must not throw out the faster one's new lock. */
async function evict(file: string, dead: Holder): Promise<void> {
  const aside = `${file}.${randomUUID()}`;
  try {
    await rename(file, aside);
  } catch {
    return;
  }
  if ((await readHolder(aside))?.id !== dead.id)
    await link(aside, file).catch(() => undefined);
  await rm(aside, { force: true });
}
