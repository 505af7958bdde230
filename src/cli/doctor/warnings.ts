import { createServer } from "node:net";
import { threadsWarning } from "../../engine/threads-warning.js";
import type { DeviceFacts } from "./devices.js";
import type { HostFacts } from "./host.js";

/** One connection each, and the model's files. */
const FEW_OPEN_FILES = 4096;

/** What a server on this machine with `--threads` of so many would run into. */
export function warningsOf(
  host: HostFacts,
  devices: DeviceFacts[],
  threads: number,
  portFree: boolean,
  port: number,
): string[] {
  const warnings: string[] = [];
  const cpu = devices.find(({ name }) => name === "cpu")?.info;
  if (cpu?.isa === "generic")
    warnings.push(
      "the processor has none of the instruction sets that the kernels are written for (AVX2 + FMA, AVX-512): expect a tenth of the speed",
    );
  const tooManyThreads = cpu ? threadsWarning(threads, cpu) : null;
  const computing = threads > 0 ? threads : (cpu?.threads ?? 0);
  if (tooManyThreads !== null) warnings.push(tooManyThreads);
  else if (host.cpuLimit !== null && host.cpuLimit < computing)
    warnings.push(
      `the control group allows ${host.cpuLimit} CPUs and ${computing} threads would compute: set --threads ${Math.max(1, Math.floor(host.cpuLimit))}`,
    );
  if (host.numaNodes > 1)
    warnings.push(
      `${host.numaNodes} NUMA nodes: on the processor, weights far from the cores that read them cost bandwidth; try numactl --cpunodebind=0 --membind=0`,
    );
  if (host.openFiles !== null && host.openFiles < FEW_OPEN_FILES)
    warnings.push(
      `${host.openFiles} open files are allowed, and each connection is one: raise it (ulimit -n, LimitNOFILE=)`,
    );
  if (!portFree)
    warnings.push(`port ${port} is taken: serve with another --port`);
  return warnings;
}

/** Whether 127.0.0.1:port can be listened on. */
export function isPortFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}
