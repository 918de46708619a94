import { expectedMs, LatencyFit } from '../../../common/estimates/latency-fit.js';
import { DecayedSum } from '../../estimates/decayed-sum.js';
import { MovingAverage } from '../../estimates/moving-average.js';
import { RecentMedian } from '../../estimates/recent-median.js';

/** Lone runs that are measured before a wide session is loaded. The first one says little. */
const NARROW_RUNS = 10;
/** Wide runs that are measured before they are judged, after the first one, which says little. */
const TRIAL_RUNS = 9;
/** A wide run is clearly faster when it takes at most this fraction of a narrow one. */
const CLEARLY = 0.85;
/** Beyond this fraction, wide runs are put to the test again. */
const DOUBTFUL = 0.95;
/** Weight of the newest wide run: the average is over about fifty. */
const WEIGHT = 0.02;
/** A run that was held up by something else counts as this many times a narrow one at most. */
const MOST = 2;
/**
 * Narrow runs beside each other that are measured before requests take turns, and again after so many turns: what they
 * took may have been due to something else.
 */
const NARROW_TURNS = 21;
const TURNS = 5_000;
/** What lone requests have lost counts 1/e after this time. */
const LOST_MS = 60_000;
/**
 * A model whose wide session was not worth it, or could not be loaded, gets none for this long and for the time of so
 * many loads; then for twice as long. It begins anew when a session was worth it for ten times as long.
 */
const FIRST_PAUSE_MS = 10_000;
const FIRST_PAUSE_LOADS = 20;
const FORGIVEN_AFTER_PAUSES = 10;

/**
 * Judges by measured times whether lone requests of a model should run wide, with several threads.
 *
 * A wide session is worth loading when lone requests have lost as much time without it as its load takes: this is the
 * ski-rental rule (Karlin, Manasse, Rudolph and Sleator 1988). It then has to show in a few runs that it is clearly
 * faster. When its runs become slow later, narrow ones are measured again, and it has to show that once more: the
 * machine may have become slow for both.
 */
export class WideWorth {
  readonly #cores: number;
  readonly #narrow = new LatencyFit();
  /** Time of narrow runs while there were others, as a multiple of that of lone ones. */
  readonly #beside = new RecentMedian(NARROW_TURNS);
  readonly #lost = new DecayedSum(LOST_MS);
  /** Time of wide runs as a fraction of that of narrow ones. */
  #ratio = new MovingAverage(WEIGHT);
  #narrowRunsDue = NARROW_RUNS;
  #turns = 0;
  #narrowTurnsDue = NARROW_TURNS;
  #isLoaded = false;
  /** Ratios of the trial's runs; undefined when there is no trial. The first one does not count. */
  #trial: number[] | undefined;
  #pauseMs = 0;
  #loadedAt = 0;
  #notBefore = Number.NEGATIVE_INFINITY;

  /** @param cores that a wide run can use; at least 2. */
  constructor(cores: number) {
    this.#cores = cores;
  }

  /** Whether a lone request should run wide. */
  get mayRun(): boolean {
    return this.#isLoaded && this.#narrowRunsDue === 0;
  }

  /** Whether the wide session is worth a load that takes `loadMs`. */
  isWorthLoading(loadMs: number, now: number): boolean {
    return this.#narrowRunsDue === 0 && now >= this.#notBefore && this.#lost.perMs(now) * LOST_MS >= loadMs;
  }

  /**
   * Whether requests that are there at the same time run wide one after the other: when even the last one is then
   * answered clearly sooner than if they ran beside each other.
   */
  takesTurns(requests: number): boolean {
    // Those that have cores of their own are compared with runs that have all.
    if (this.#trial !== undefined) return requests <= this.#cores / 2;
    const beside = this.#narrowTurnsDue === 0 ? this.#beside.value : undefined;
    return beside !== undefined && requests * (this.#ratio.value ?? 1) <= CLEARLY * beside;
  }

  /**
   * Whether a request waits so long for its turn: no longer than it would take to run narrow. So it may wait for others
   * that run narrow when turns begin, which is made up for by the turns that follow, and a short one for no long one.
   */
  isWorthWaiting(milliseconds: number, rows: number): boolean {
    const narrow = this.#narrow.estimate();
    return narrow !== undefined && milliseconds <= (this.#beside.value ?? 1) * expectedMs(narrow, rows);
  }

  /** A request ran wide while others waited for their turn. */
  tookTurn(): void {
    this.#turns += 1;
    if (this.#turns % TURNS === 0) this.#narrowTurnsDue = NARROW_TURNS;
  }

  /** A request ran narrow while there were few others. */
  ranBesideOthers(rows: number, runMs: number): void {
    const narrow = this.#narrow.estimate();
    if (narrow === undefined) return;
    this.#beside.add(runMs / expectedMs(narrow, rows));
    this.#narrowTurnsDue = Math.max(0, this.#narrowTurnsDue - 1);
  }

  /** Milliseconds that a wide run is expected to take: as long as a narrow one before it was tried. */
  expectedMs(rows: number): number | undefined {
    const narrow = this.#narrow.estimate();
    return narrow && (this.#ratio.value ?? 1) * expectedMs(narrow, rows);
  }

  /** A request ran narrow. @param requests that were there with its own; with more than one, they would take turns. */
  ranNarrow(rows: number, runMs: number, now: number, requests = 1): void {
    this.#narrow.add(rows, runMs);
    this.#lost.add(Math.max(0, 1 - requests / this.#cores) * runMs, now);
    this.#narrowRunsDue = Math.max(0, this.#narrowRunsDue - 1);
  }

  /** The wide session is loaded. It has to show that it is faster. */
  loaded(now: number): void {
    this.#isLoaded = true;
    this.#loadedAt = now;
    this.#begin();
  }

  #begin(): void {
    this.#trial = [];
    this.#ratio = new MovingAverage(WEIGHT);
  }

  /** The wide session is not loaded, or not any more. */
  gone(): void {
    this.#isLoaded = false;
  }

  /** A lone request ran wide. @returns false when the session is not worth its memory: then it has {@link failed}. */
  ranWide(rows: number, runMs: number): boolean {
    const narrow = this.#narrow.estimate();
    if (narrow === undefined) return true;
    const ratio = Math.min(MOST, runMs / expectedMs(narrow, rows));
    if (this.#trial === undefined) {
      this.#ratio.add(ratio);
      if ((this.#ratio.value ?? 0) > DOUBTFUL) {
        this.#narrowRunsDue = NARROW_RUNS;
        this.#begin();
      }
      return true;
    }
    this.#trial.push(ratio);
    if (this.#trial.length <= TRIAL_RUNS) return true;
    const [median] = this.#trial
      .slice(1)
      .sort((left, right) => left - right)
      .slice(TRIAL_RUNS >> 1) as [number];
    this.#trial = undefined;
    this.#ratio.add(median);
    return median <= CLEARLY;
  }

  /** The session could not be loaded, or was not worth it. */
  failed(loadMs: number, now: number): void {
    this.#isLoaded = false;
    const isForgiven = now - this.#loadedAt >= FORGIVEN_AFTER_PAUSES * this.#pauseMs;
    this.#pauseMs = Math.max(FIRST_PAUSE_MS, FIRST_PAUSE_LOADS * loadMs, isForgiven ? 0 : 2 * this.#pauseMs);
    this.#notBefore = now + this.#pauseMs;
  }
}
