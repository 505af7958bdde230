/** Of `octavo bench device`, in the order in which they run. */
export const PARTS = [
  "shapes",
  "models",
  "latency",
  "prefill",
  "idle",
  "startup",
  "serve",
  "throughput",
  "summary",
] as const;
export type Part = (typeof PARTS)[number];
