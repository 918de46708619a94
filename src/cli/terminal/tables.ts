import Table, { type TableConstructorOptions } from 'cli-table3';
import type { Percentiles } from '../demo/demo-figures.js';
import { colors } from './colors.js';
import { printable } from './printable.js';

/** Draws a table for a terminal: numbers to the right, and no head when all its names are empty. */
export function renderTable(head: string[], rows: (string | number)[][]): string {
  const hasHead = head.some((name) => name !== '');
  const table = new Table({
    ...(hasHead ? { head: head.map((name) => colors.bold(name)) } : {}),
    colAligns: head.map((_, column) => (column === 0 ? 'left' : 'right')),
    style: { head: [], border: [] },
  });
  table.push(...rows);
  return table.toString();
}

/** Draws a table of text that comes from files: each cell is one line, and steers no terminal. */
export function renderFacts(rows: readonly (readonly unknown[])[], options: TableConstructorOptions = {}): string {
  const table = new Table({ ...options, style: { head: [], border: [] } });
  table.push(...rows.map((row) => row.map((cell) => printable(String(cell)))));
  return table.toString();
}

export function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

export function milliseconds({ p50, p95, p99 }: Percentiles): string {
  return `${[p50, p95, p99].map((value) => value.toFixed(2)).join(' / ')} ms`;
}
