/** The part of the report that all benches share: the machine, and whether the goals were reached. */
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { median } from './load/measurements.js';

/** A goal of a bench. */
export interface Goal {
  readonly what: string;
  /** Values of the rounds, in order. */
  readonly values: readonly number[];
  readonly unit:
    | '×'
    | '%'
    | 'ms'
    | 's'
    | 'runs'
    | 'services'
    | 'frames'
    | 'seeds'
    | 'times'
    | 'items'
    | 'items/s'
    | 'MB'
    | 'kB'
    | 'sessions';
  readonly limit: number;
  readonly aim: number;
  /** Whether the value must be at most the limit, instead of at least. */
  readonly atMost?: boolean;
  /** The best possible value, where it is known. */
  readonly bound?: number;
}

export interface JudgedGoal extends Goal {
  readonly value: number;
  readonly isReached: boolean;
}

export function judge(goal: Goal): JudgedGoal {
  const value = median(goal.values);
  return { ...goal, value, isReached: goal.atMost === true ? value <= goal.limit : value >= goal.limit };
}

function version(name: string): string {
  const path = new URL(`../node_modules/${name}/package.json`, import.meta.url);
  return (JSON.parse(readFileSync(path, 'utf8')) as { version: string }).version;
}

export const machine = {
  processor: cpus()[0]?.model ?? 'unknown',
  cores: cpus().length,
  memoryGiB: Math.round(totalmem() / 2 ** 30),
  platform: `${process.platform} ${process.arch}`,
  node: process.versions.node,
  versions: Object.fromEntries(['onnxruntime-node', 'piscina', 'poolifier'].map((name) => [name, version(name)])),
};
export const place = placeOf(machine);

function placeOf({ cores, processor, memoryGiB, platform, node, versions }: typeof machine): string {
  const packages = Object.entries(versions).map(([name, number]) => `${name} ${number}`);
  return `${cores} cores (${processor}), ${memoryGiB} GiB, ${platform}, Node ${node}, ${packages.join(', ')}`;
}

/** A figure that could not be measured is infinite, so that it is above every limit. */
const amount = (value: number, unit: Goal['unit']) =>
  !Number.isFinite(value)
    ? 'never'
    : unit === '×'
      ? `${value.toFixed(2)}×`
      : COUNTED.has(unit) && Number.isInteger(value)
        ? count(value, unit)
        : `${value.toFixed(value < 1_000 ? 2 : 0)} ${unit}`;

const COUNTED: ReadonlySet<Goal['unit']> = new Set(['runs', 'frames', 'seeds', 'times', 'items', 'sessions']);

/** How often something happened is a bare number. */
function count(value: number, unit: Goal['unit']): string {
  if (unit === 'times') return String(value);
  return `${value} ${value === 1 ? unit.slice(0, -1) : unit}`;
}

function goalLine({ what, values, value, unit, limit, aim, atMost, isReached, bound }: JudgedGoal): string[] {
  const spread = `${amount(Math.min(...values), unit)} to ${amount(Math.max(...values), unit)}`;
  const side = atMost === true ? '≤' : '≥';
  const verdict = isReached
    ? 'reached'
    : bound !== undefined && (atMost === true ? bound > limit : bound < limit)
      ? `NOT REACHED: ${atMost === true ? 'the least possible is' : 'the bare loop has'} ${amount(bound, unit)}`
      : 'NOT REACHED';
  return [what, amount(value, unit), spread, `${side} ${amount(limit, unit)}`, amount(aim, unit), verdict];
}

export function markdown(head: readonly string[], lines: readonly (readonly string[])[]): string {
  const row = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [row(head), row(head.map(() => '---')), ...lines.map(row)].join('\n');
}

export function goalTable(goals: readonly JudgedGoal[]): string {
  return markdown(['what', 'median', 'lowest to highest', 'goal', 'ambitious goal', 'result'], goals.map(goalLine));
}

/** Writes the text between the marks of the bench in a page. */
export function writeInto(bench: string, text: string, file: string): void {
  const readme = new URL(`../${file}`, import.meta.url);
  const [begin, end] = [`<!-- ${bench}: written by npm run ${bench} -->`, `<!-- end of ${bench} -->`];
  const before = readFileSync(readme, 'utf8');
  if (!before.includes(begin) || !before.includes(end)) throw new Error(`${file} has no place for ${bench}`);
  const after = before.slice(before.indexOf(end) + end.length);
  writeFileSync(readme, `${before.slice(0, before.indexOf(begin))}${begin}\n${text}\n${end}${after}`);
}
