import { colors } from '../terminal/colors.js';
import { printable } from '../terminal/printable.js';
import { gatherFacts } from './facts.js';
import { type Finding, findingsOf, type Verdict } from './findings.js';

/** The result of `infermux doctor`. */
export interface DoctorReport {
  readonly findings: readonly Finding[];
  /** Whether infermux can work here. */
  readonly isWell: boolean;
}

export async function examine(progress: (done: number, total: number) => void): Promise<DoctorReport> {
  const findings = findingsOf(await gatherFacts(progress));
  return { findings, isWell: findings.every(({ verdict }) => verdict !== 'problem') };
}

const MARKS: Readonly<Record<Verdict, string>> = {
  ok: colors.green('ok     '),
  note: colors.cyan('note   '),
  warning: colors.yellow('warning'),
  problem: colors.red('problem'),
};

/** One line for each finding, and one below it where something can be done. */
export function doctorLines({ findings, isWell }: DoctorReport): string {
  const width = Math.max(...findings.map(({ what }) => what.length));
  const lines = findings.flatMap(({ verdict, what, found, advice }) => [
    `${MARKS[verdict]}  ${what.padEnd(width)}  ${printable(found)}`,
    ...(advice === undefined ? [] : [`${' '.repeat(9)}${' '.repeat(width)}  → ${advice}`]),
  ]);
  return [...lines, '', isWell ? 'infermux works here.' : 'infermux does not work here: see the problems above.'].join(
    '\n',
  );
}
