const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** 1536 -> "1.5 KiB". */
export function formatBytes(bytes: number): string {
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value >= 100 || unit === 0 ? value.toFixed(0) : value.toFixed(1)} ${UNITS[unit] ?? ""}`;
}

/** 1234567 -> "1,234,567". */
export function formatCount(count: number): string {
  return Math.round(count).toLocaleString("en-US");
}

/**
 * A progress bar on a terminal, rewritten in place; elsewhere a line at each quarter. `update` may be called often.
 */
export class ProgressBar {
  private shown = -1;
  private quarter = 0;

  constructor(
    private readonly label: string,
    private readonly stream: NodeJS.WriteStream = process.stderr,
  ) {}

  update(done: number, total: number): void {
    const share = total > 0 ? Math.min(1, done / total) : 1;
    const percent = Math.floor(share * 100);
    if (percent === this.shown) return;
    this.shown = percent;
    if (this.stream.isTTY) {
      const filled = Math.round(share * 30);
      const bar = "█".repeat(filled) + "░".repeat(30 - filled);
      this.stream.write(
        `\r${this.label} ${bar} ${String(percent).padStart(3)} %${percent === 100 ? "\n" : ""}`,
      );
    } else if (percent >= this.quarter * 25) {
      this.stream.write(`${this.label} ${percent} %\n`);
      this.quarter = Math.floor(percent / 25) + 1;
    }
  }
}
