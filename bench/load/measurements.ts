import type { Load } from '../../dist/cli/bench/load.js';

/** All measurements, round by round. */
export class Measurements {
  readonly #cells = new Map<string, Load[]>();
  readonly #limits = new Map<string, number[]>();

  /** @param load for example `64 callers`. */
  add(model: string, contender: string, load: string, result: Load): void {
    push(this.#cells, keyOf(model, contender, load), result);
  }

  addLimit(model: string, rows: number, perSecond: number): void {
    push(this.#limits, keyOf(model, `${rows}`), perSecond);
  }

  rounds(model: string, contender: string, load: string): readonly Load[] {
    return this.#cells.get(keyOf(model, contender, load)) ?? [];
  }

  /** Returns the rows per second of threads that do nothing else, round by round. */
  limit(model: string, rows: number): readonly number[] {
    return this.#limits.get(keyOf(model, `${rows}`)) ?? [];
  }

  /** Returns every cell, with the median of its rounds and their least and greatest throughput. */
  summary() {
    return [...this.#cells].map(([key, rounds]) => {
      const [model, contender, load] = key.split('\n');
      const throughputs = rounds.map(({ throughput }) => throughput);
      return {
        model,
        contender,
        load,
        ...medianLoad(rounds),
        throughputSpread: [Math.min(...throughputs), Math.max(...throughputs)],
      };
    });
  }

  limits() {
    return [...this.#limits].map(([key, rounds]) => {
      const [model, rows] = key.split('\n');
      return { model, rows: Number(rows), rowsPerSecond: median(rounds) };
    });
  }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((left, right) => left - right);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

export function medianLoad(rounds: readonly Load[]): Load {
  const of = (read: (load: Load) => number) => median(rounds.map(read));
  return {
    throughput: of(({ throughput }) => throughput),
    p50: of(({ p50 }) => p50),
    p95: of(({ p95 }) => p95),
    p99: of(({ p99 }) => p99),
    loopDelayP99: of(({ loopDelayP99 }) => loopDelayP99),
  };
}

function keyOf(...parts: readonly string[]): string {
  return parts.join('\n');
}

function push<T>(lists: Map<string, T[]>, key: string, value: T): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [value]);
  else list.push(value);
}
