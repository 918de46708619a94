import type { Comer } from '../machine/simulated-deployment.js';
import { isSteady, type Mix } from './mix.js';

/** Something that comes and goes more often than once in the time of this many loads makes more work than it saves. */
const LOADS = 10;

/** What became of the requests of a stream that came in one phase. Times in milliseconds. */
export interface StreamOutcome {
  readonly stream: string;
  readonly phase: string;
  readonly meanMs: number;
  readonly p99Ms: number;
  /** Answers per second. */
  readonly perSecond: number;
}

export interface MixOutcome {
  readonly streams: readonly StreamOutcome[];
  /** Sessions that were loaded after the warm-up, and express replicas that were started. */
  readonly came: Readonly<Record<Comer, number>>;
  /** How often the one that came most often did, in the time of ten of the mix's longest loads. */
  readonly swings: Readonly<Record<Comer, number>>;
  /** Requests that were refused or answered with an error. */
  readonly failed: number;
}

interface Arrival {
  readonly stream: number;
  readonly at: number;
}

/** Records the outcomes of the requests of a mix. */
export class MixOutcomes {
  readonly #mix: Mix;
  /** Clock times at which the phases end. */
  readonly #ends: readonly number[];
  readonly #waiting = new Set<Arrival>();
  readonly #times: number[][][];
  readonly #answered: number[][];
  readonly #came: Record<Comer, Map<string, number>> = { narrow: new Map(), wide: new Map(), express: new Map() };
  #failed = 0;

  constructor(mix: Mix) {
    this.#mix = mix;
    let end = 0;
    this.#ends = mix.phases.map(({ ms }) => {
      end += ms;
      return end;
    });
    this.#times = mix.streams.map(() => mix.phases.map(() => []));
    this.#answered = mix.streams.map(() => mix.phases.map(() => 0));
  }

  /** The phase of this clock time. */
  phaseAt(now: number): number {
    const phase = this.#ends.findIndex((end) => now < end);
    return phase === -1 ? this.#ends.length - 1 : phase;
  }

  get endsAt(): number {
    return this.#ends.at(-1) ?? 0;
  }

  /** @returns the request. */
  arrived(stream: number, at: number): Arrival {
    const request = { stream, at };
    this.#waiting.add(request);
    return request;
  }

  answered(request: Arrival, totalMs: number): void {
    const { stream, at } = request;
    this.#waiting.delete(request);
    this.#times[stream]?.[this.phaseAt(at)]?.push(totalMs);
    const answered = this.#answered[stream];
    const phase = this.phaseAt(at + totalMs);
    if (answered !== undefined && at + totalMs < this.endsAt) answered[phase] = (answered[phase] ?? 0) + 1;
  }

  failed(): void {
    this.#failed += 1;
  }

  came(what: Comer, place: string, now: number): void {
    if (this.#mix.phases[this.phaseAt(now)]?.isMeasured !== true) return;
    this.#came[what].set(place, (this.#came[what].get(place) ?? 0) + 1);
  }

  result(): MixOutcome {
    // Who still waits has waited at least for so long.
    for (const request of [...this.#waiting]) this.answered(request, this.endsAt - request.at);
    const { phases, streams } = this.#mix;
    const measuredMs = phases.reduce((sum, { ms, isMeasured }) => sum + (isMeasured ? ms : 0), 0);
    const loadsMs = LOADS * Math.max(...streams.map(({ loadMs }) => loadMs));
    const all = (what: Comer) => [...this.#came[what].values()];
    const came = (what: Comer) => all(what).reduce((sum, times) => sum + times, 0);
    const swings = (what: Comer) => (isSteady(this.#mix) ? (Math.max(0, ...all(what)) * loadsMs) / measuredMs : 0);
    return {
      streams: streams.flatMap(({ name }, stream) =>
        phases.flatMap((phase, index) => (phase.isMeasured ? [this.#ofStream(name, stream, phase, index)] : [])),
      ),
      came: { narrow: came('narrow'), wide: came('wide'), express: came('express') },
      swings: { narrow: swings('narrow'), wide: swings('wide'), express: swings('express') },
      failed: this.#failed,
    };
  }

  #ofStream(
    name: string,
    stream: number,
    { name: phase, ms }: { name: string; ms: number },
    index: number,
  ): StreamOutcome {
    const times = Float64Array.from(this.#times[stream]?.[index] ?? []).sort();
    const sum = times.reduce((total, time) => total + time, 0);
    return {
      ...{
        stream: name,
        phase,
        meanMs: sum / times.length,
        p99Ms: times[Math.floor(0.99 * times.length)] ?? Number.NaN,
      },
      perSecond: (1_000 * (this.#answered[stream]?.[index] ?? 0)) / ms,
    };
  }
}
