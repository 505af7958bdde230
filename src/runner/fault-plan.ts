import { OctavoError } from "../core/errors.js";

/** open: a runner is made. exit: as launch, but the thread ends without a word. */
const FAULT_KINDS = ["open", "launch", "collect", "exit"] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

export interface Fault {
  kind: FaultKind;
  /** The n-th call of its kind, from 1, fails. */
  n: number;
}

/** Device errors to order, for the runners that compute nothing real. Calls are counted over all runners that share it. */
export class FaultPlan {
  private readonly counts = { open: 0, launch: 0, collect: 0 };

  constructor(private readonly faults: readonly Fault[]) {}

  /** "launch@20,collect@31". Throws invalid_config, which names `variable`. */
  static parse(text: string, variable: string): FaultPlan {
    const faults = text.split(",").map((entry) => {
      const [kind, n, ...rest] = entry.trim().split("@");
      const known = FAULT_KINDS.find((name) => name === kind);
      if (!known || !/^[1-9]\d*$/.test(n ?? "") || rest.length > 0)
        throw new OctavoError(
          "invalid_config",
          `${variable}: expected KIND@N,... with KIND ${FAULT_KINDS.join(", ")} and N from 1, got "${entry}".`,
          variable,
        );
      return { kind: known, n: Number(n) };
    });
    return new FaultPlan(faults);
  }

  /** Counts a call. Throws device_error when it is one that is to fail. */
  pass(call: Exclude<FaultKind, "exit">): void {
    const n = ++this.counts[call];
    for (const fault of this.faults) {
      if (fault.n !== n) continue;
      if (fault.kind === "exit" && call === "launch") process.exit(1);
      if (fault.kind === call)
        throw new OctavoError(
          "device_error",
          `the fake device was lost at ${call} ${n}`,
        );
    }
  }
}

export const NO_FAULTS = new FaultPlan([]);
