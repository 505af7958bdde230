import { Counter, Gauge, Histogram, Registry } from "prom-client";

/** Makes the metrics of one registry; each has the base labels. */
export class MeterFactory {
  readonly registry = new Registry();
  constructor(private readonly base: Record<string, string>) {}

  private names(labels: readonly string[]): string[] {
    return [...Object.keys(this.base), ...labels];
  }

  /** A value read at each scrape. */
  gauge(name: string, help: string, read: () => number): void {
    const { base } = this;
    new Gauge({
      name,
      help,
      labelNames: this.names([]),
      registers: [this.registry],
      collect() {
        this.set(base, read());
      },
    });
  }

  /** Values of one label, read at each scrape. */
  gauges(
    name: string,
    help: string,
    label: string,
    read: () => Record<string, number>,
  ): void {
    const { base } = this;
    new Gauge({
      name,
      help,
      labelNames: this.names([label]),
      registers: [this.registry],
      collect() {
        for (const [value, amount] of Object.entries(read()))
          this.set({ ...base, [label]: value }, amount);
      },
    });
  }

  /** A running total that the engine keeps, read at each scrape; by one label, or without ("" as the only key). */
  total(
    name: string,
    help: string,
    label: string | null,
    read: () => Record<string, number>,
  ): void {
    const { base } = this;
    new Counter({
      name,
      help,
      labelNames: this.names(label === null ? [] : [label]),
      registers: [this.registry],
      collect() {
        this.reset();
        for (const [value, amount] of Object.entries(read()))
          this.inc(label === null ? base : { ...base, [label]: value }, amount);
      },
    });
  }

  /** Every listed child exists from the start, at 0. */
  counter(
    name: string,
    help: string,
    label?: string,
    children: readonly string[] = [],
  ): LabelledCounter {
    const counter = new Counter({
      name,
      help,
      labelNames: this.names(label === undefined ? [] : [label]),
      registers: [this.registry],
    });
    const { base } = this;
    if (label === undefined) counter.inc(base, 0);
    else
      for (const child of children) counter.inc({ ...base, [label]: child }, 0);
    return {
      inc: (labels, by = 1) => {
        if (typeof labels === "object") counter.inc({ ...base, ...labels }, by);
        else counter.inc(base, labels ?? 1);
      },
    };
  }

  histogram(
    name: string,
    help: string,
    buckets: number[],
    label?: string,
    children: readonly string[] = [],
  ): LabelledHistogram {
    const histogram = new Histogram({
      name,
      help,
      buckets,
      labelNames: this.names(label === undefined ? [] : [label]),
      registers: [this.registry],
    });
    const { base } = this;
    if (label === undefined) histogram.zero(base);
    else
      for (const child of children) histogram.zero({ ...base, [label]: child });
    return {
      observe: (labels, value) => {
        if (typeof labels === "object")
          histogram.observe({ ...base, ...labels }, value ?? 0);
        else histogram.observe(base, labels);
      },
    };
  }
}

export interface LabelledCounter {
  /** By `by` (default 1), for these labels; or an amount without labels. */
  inc(labels?: Record<string, string> | number, by?: number): void;
}

export interface LabelledHistogram {
  /** A value, or labels and a value. */
  observe(labels: Record<string, string> | number, value?: number): void;
}
