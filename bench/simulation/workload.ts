import type { SimulatedModel } from './machine/simulated-model.js';
import { exponential, type Random, seeded } from './random.js';
import type { Setting } from './setting.js';

/** Milliseconds of one service. Long enough that hardly any request is given ahead, as with any slow model. */
export const SERVICE_MS = 10;
const SESSION_BYTES = 1_000_000;
/** Share of the requests that take the longer time. */
const TWO_PEAKED_SHARE = 0.1;
const SHORT = 0.5;
const LONG = 5.5;
/** Number of requests after which two models change places in popularity. */
const DRIFT_REQUESTS = 100;
/** After every `BURST_EVERY` requests, one model gets `BURST_SHARE` of the next `BURST_REQUESTS`. */
const BURST_EVERY = 4_000;
const BURST_REQUESTS = 1_000;
const BURST_SHARE = 0.2;

export interface Arrival {
  readonly model: SimulatedModel;
  /** Milliseconds after the request before. */
  readonly gapMs: number;
  readonly serviceMs: number;
}

/** The requests of a setting. The same seed gives the same requests, whatever their outcomes are. */
export class Workload {
  readonly models: readonly SimulatedModel[];
  /** Most bytes of the sessions of a replica. */
  readonly replicaBytes: number;
  readonly #setting: Setting;
  readonly #random: Random;
  readonly #cumulative: Float64Array;
  #arrivals = 0;
  #burst = 0;
  readonly #byRank: number[];

  constructor(setting: Setting, seed: number) {
    this.#setting = setting;
    const random = seeded(seed);
    this.#random = random;
    const weights = Array.from({ length: setting.models }, (_, rank) => (rank + 1) ** -setting.zipf);
    this.#cumulative = Float64Array.from(weights);
    for (let rank = 1; rank < weights.length; rank += 1) {
      (this.#cumulative[rank] as number) += this.#cumulative[rank - 1] as number;
    }
    this.#byRank = Array.from({ length: setting.models }, (_, rank) => rank);
    this.models = makeModels(setting, random);
    this.replicaBytes = setting.sessions * SESSION_BYTES;
  }

  next(): Arrival {
    const { replicas, offered, service } = this.#setting;
    const random = this.#random;
    this.#arrivals += 1;
    const gapMs = (exponential(random) * SERVICE_MS) / (replicas * offered);
    const model = this.models[this.#drawModel()] as SimulatedModel;
    return { model, gapMs, serviceMs: SERVICE_MS * drawService(service, random) };
  }

  #drawModel(): number {
    const { popularity, models } = this.#setting;
    const rank = this.#drawRank();
    if (popularity === 'steady') return rank;
    if (popularity === 'drifting') {
      if (this.#arrivals % DRIFT_REQUESTS === 0) this.#drift();
      return this.#byRank[rank] as number;
    }
    if (this.#arrivals % BURST_EVERY === 0) this.#burst = Math.floor(this.#random() * models);
    const isBurst = this.#arrivals % BURST_EVERY < BURST_REQUESTS && this.#random() < BURST_SHARE;
    return isBurst ? this.#burst : rank;
  }

  #drift(): void {
    const byRank = this.#byRank;
    const [one, other] = [0, 0].map(() => Math.floor(this.#random() * byRank.length)) as [number, number];
    const moved = byRank[one] as number;
    byRank[one] = byRank[other] as number;
    byRank[other] = moved;
  }

  #drawRank(): number {
    const cumulative = this.#cumulative;
    const drawn = this.#random() * (cumulative.at(-1) as number);
    let low = 0;
    let high = cumulative.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((cumulative[middle] as number) > drawn) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

function makeModels({ models, load, sizes }: Setting, random: Random): SimulatedModel[] {
  const drawn = Array.from({ length: models }, () =>
    sizes === 'alike' ? { bytes: 1, cost: 1 } : { bytes: 16 ** (random() - 0.5), cost: 16 ** (random() - 0.5) },
  );
  const meanLoad = drawn.reduce((sum, { bytes, cost }) => sum + bytes * cost, 0) / models;
  const meanBytes = drawn.reduce((sum, { bytes }) => sum + bytes, 0) / models;
  return drawn.map(({ bytes, cost }, index) => ({
    ...{ id: `model-${index}`, key: `model-${index}`, path: '' },
    bytes: (SESSION_BYTES * bytes) / meanBytes,
    loadMs: (SERVICE_MS * load * bytes * cost) / meanLoad,
  }));
}

/** Draws a service time of mean 1. */
function drawService(service: Setting['service'], random: Random): number {
  if (service === 'constant') return 1;
  if (service === 'exponential') return exponential(random);
  return random() < TWO_PEAKED_SHARE ? LONG : SHORT;
}
