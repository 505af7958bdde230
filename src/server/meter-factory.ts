import { Counter, Gauge, Histogram, Registry } from "prom-client";

type Labels = Record<string, string>;

/** A running total of one set of labels. */
export class Total {
  value = 0;

  constructor(readonly labels: Labels) {}

  inc(by = 1): void {
    this.value += by;
  }
}

/** How often each bucket of one set of labels was hit, and the sum of what was observed. */
export class Distribution {
  sum = 0;
  /** Float64 [bounds.length + 1], not cumulative; the last one is +Inf's. */
  readonly counts: Float64Array;

  constructor(
    readonly labels: Labels,
    private readonly bounds: readonly number[],
  ) {
    this.counts = new Float64Array(bounds.length + 1);
  }

  observe(value: number): void {
    const { bounds, counts } = this;
    let low = 0;
    let high = bounds.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      // Not `value <= bound`: NaN must end in +Inf.
      if (value <= (bounds[middle] as number)) high = middle;
      else low = middle + 1;
    }
    counts[low] = (counts[low] as number) + 1;
    this.sum += value;
  }
}

/**
 * prom-client's own counters and histograms hash their labels at each call, about a microsecond: too much for what is
 * counted per token. These keep one object per set of labels, which the callers hold, and are read at the scrape.
 */
class TotalFamily extends Counter {
  private readonly totals: Total[] = [];

  child(labels: Labels): Total {
    const total = new Total(labels);
    this.totals.push(total);
    return total;
  }

  override async get() {
    return { ...(await super.get()), values: this.totals };
  }
}

class DistributionFamily extends Histogram {
  private readonly distributions: Distribution[] = [];

  constructor(
    readonly configuration: {
      name: string;
      help: string;
      buckets: number[];
      labelNames: string[];
      registers: Registry[];
    },
  ) {
    super(configuration);
  }

  child(labels: Labels): Distribution {
    const child = new Distribution(labels, this.configuration.buckets);
    this.distributions.push(child);
    return child;
  }

  /** What prom-client asks a histogram for when it writes the text format, and what its get() is made of. */
  async getForPromString() {
    const { name, help } = this.configuration;
    const values = this.distributions.flatMap((child) => this.exported(child));
    return { name, help, type: "histogram", aggregator: "sum", values };
  }

  /** Cumulative buckets, sum and count. */
  private exported({ labels, counts, sum }: Distribution) {
    const { name, buckets } = this.configuration;
    let count = 0;
    const values = Array.from(counts, (inBucket, i) => {
      count += inBucket;
      const bound = buckets[i];
      const le = bound === undefined ? "+Inf" : String(bound);
      return {
        metricName: `${name}_bucket`,
        labels: { le, ...labels },
        value: count,
      };
    });
    return [
      ...values,
      { metricName: `${name}_sum`, labels, value: sum },
      { metricName: `${name}_count`, labels, value: count },
    ];
  }
}

/** Makes the metrics of one registry; each has the base labels. Every child exists from the start, at 0. */
export class MeterFactory {
  readonly registry = new Registry();
  constructor(private readonly base: Labels) {}

  /** A value read at each scrape. */
  gauge(name: string, help: string, read: () => number): void {
    this.gauges(name, help, null, () => ({ "": read() }));
  }

  /** Values of one label (or the only value, named ""), read at each scrape. */
  gauges(
    name: string,
    help: string,
    label: string | null,
    read: () => Record<string, number>,
  ): void {
    const { base } = this;
    new Gauge({
      name,
      help,
      labelNames: this.names(label),
      registers: [this.registry],
      collect() {
        for (const [value, amount] of Object.entries(read()))
          this.set(label === null ? base : { ...base, [label]: value }, amount);
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
      labelNames: this.names(label),
      registers: [this.registry],
      collect() {
        this.reset();
        for (const [value, amount] of Object.entries(read()))
          this.inc(label === null ? base : { ...base, [label]: value }, amount);
      },
    });
  }

  counter(name: string, help: string): Total {
    return this.totalFamily(name, help, []).child(this.base);
  }

  /** A counter by the values of one label. */
  counters<K extends string>(
    name: string,
    help: string,
    label: string,
    values: readonly K[],
  ): Record<K, Total> {
    const family = this.totalFamily(name, help, [label]);
    return byValue(values, (value) =>
      family.child({ ...this.base, [label]: value }),
    );
  }

  /** A counter by two labels; the values of the first that are not known yet are made when they are first asked for. */
  grid<B extends string>(
    name: string,
    help: string,
    [labelA, valuesA]: readonly [string, readonly string[]],
    [labelB, valuesB]: readonly [string, readonly B[]],
  ): (a: string) => Record<B, Total> {
    const family = this.totalFamily(name, help, [labelA, labelB]);
    const rows = new Map<string, Record<B, Total>>();
    const rowOf = (a: string): Record<B, Total> => {
      let row = rows.get(a);
      if (row === undefined) {
        row = byValue(valuesB, (b) =>
          family.child({ ...this.base, [labelA]: a, [labelB]: b }),
        );
        rows.set(a, row);
      }
      return row;
    };
    valuesA.forEach(rowOf);
    return rowOf;
  }

  histogram(name: string, help: string, buckets: number[]): Distribution {
    return this.distributionFamily(name, help, buckets, []).child(this.base);
  }

  /** A histogram by the values of one label. */
  histograms<K extends string>(
    name: string,
    help: string,
    buckets: number[],
    label: string,
    values: readonly K[],
  ): Record<K, Distribution> {
    const family = this.distributionFamily(name, help, buckets, [label]);
    return byValue(values, (value) =>
      family.child({ ...this.base, [label]: value }),
    );
  }

  private totalFamily(
    name: string,
    help: string,
    labels: readonly string[],
  ): TotalFamily {
    return new TotalFamily({
      name,
      help,
      labelNames: this.names(...labels),
      registers: [this.registry],
    });
  }

  private distributionFamily(
    name: string,
    help: string,
    buckets: number[],
    labels: readonly string[],
  ): DistributionFamily {
    return new DistributionFamily({
      name,
      help,
      buckets,
      labelNames: this.names(...labels),
      registers: [this.registry],
    });
  }

  private names(...labels: readonly (string | null)[]): string[] {
    const own = labels.filter((label) => label !== null);
    return [...Object.keys(this.base), ...own];
  }
}

function byValue<K extends string, T>(
  values: readonly K[],
  make: (value: K) => T,
): Record<K, T> {
  return Object.fromEntries(
    values.map((value) => [value, make(value)]),
  ) as Record<K, T>;
}
