/** What the answers to many callers say about the runs behind them. Nothing here has a clock. */
import { median } from '../measurements.js';

/** An answer, as its caller sees it. Times in milliseconds. */
export interface Answer {
  readonly at: number;
  readonly latencyMs: number;
  readonly replica: string;
  /** Requests that shared the run. */
  readonly batchSize: number;
}

/** A call of onnxruntime and the requests that it answered. */
export interface Run {
  readonly endedAt: number;
  readonly requests: number;
}

/** Finds the runs, in the order of their ends. The answers of a run come one after the other from its replica. */
export function runsOf(answers: readonly Answer[]): Run[] {
  const open = new Map<string, number>();
  const runs: Run[] = [];
  for (const { at, replica, batchSize } of answers) {
    const answered = (open.get(replica) ?? 0) + 1;
    open.set(replica, answered < batchSize ? answered : 0);
    if (answered >= batchSize) runs.push({ endedAt: at, requests: batchSize });
  }
  return runs;
}

/**
 * Returns requests per second from the first to the last run that ended between two times. The edges of the runs count,
 * not the edges of the window: a run may take as long as a tenth of it.
 */
export function rateOf(runs: readonly Run[], from: number, to: number): number {
  const [first, ...others] = runs.filter(({ endedAt }) => endedAt >= from && endedAt <= to);
  const last = others.at(-1);
  if (first === undefined || last === undefined) return 0;
  return rate(others, first.endedAt);
}

/** A median of three runs is fast when two of them are. */
const FAST_WINDOW = 3;
/** The share of the steady figure that counts as the figure itself. */
const FAST_ENOUGH = 1.15;
/** Four runs of each of two replicas. */
const FULL_WINDOW = 8;
const FULL_ENOUGH = 0.9;

/**
 * Returns how many requests one caller sent before they were as fast as in the steady state; all of them if they never
 * were.
 */
export function runsUntilFast(latencies: readonly number[], steadyMs: number): number {
  for (let before = 0; before + FAST_WINDOW <= latencies.length; before += 1) {
    if (median(latencies.slice(before, before + FAST_WINDOW)) <= FAST_ENOUGH * steadyMs) return before;
  }
  return latencies.length;
}

/** Returns how many runs ended before requests were answered as quickly as in the steady state; all if they never were. */
export function runsUntilFull(runs: readonly Run[], startedAt: number, steadyPerSecond: number): number {
  for (let before = 0; before + FULL_WINDOW <= runs.length; before += 1) {
    const since = runs[before - 1]?.endedAt ?? startedAt;
    if (rate(runs.slice(before, before + FULL_WINDOW), since) >= FULL_ENOUGH * steadyPerSecond) return before;
  }
  return runs.length;
}

/** Requests per second of some runs, one after the other, the first of which began at `since`. */
function rate(runs: readonly Run[], since: number): number {
  const requests = runs.reduce((sum, run) => sum + run.requests, 0);
  return (1_000 * requests) / ((runs.at(-1)?.endedAt ?? Number.NaN) - since);
}
