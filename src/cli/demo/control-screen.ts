import { clearScreenDown, cursorTo, moveCursor } from 'node:readline';
import { colors } from '../terminal/colors.js';
import { percent, renderTable } from '../terminal/tables.js';
import type { ControlFrame, ControlReport } from './control-demo.js';

const BAR_WIDTH = 40;

const STATES: Readonly<Record<string, string>> = {
  starting: colors.yellow('◐'),
  running: colors.green('●'),
  draining: colors.blue('○'),
  failed: colors.red('✗'),
};

/** Shows each frame in the place of the last on a terminal; elsewhere prints a line for each step. */
export function controlScreen(): { show: (frame: ControlFrame) => void; stop: () => void } {
  const { stderr } = process;
  let lines = 0;
  let lastStep: string | undefined;
  return {
    show: (frame) => {
      if (!stderr.isTTY) {
        if (frame.step !== lastStep) stderr.write(`${frame.step}\n`);
        lastStep = frame.step;
        return;
      }
      const text = frameLines(frame);
      back(lines);
      stderr.write(`${text.join('\n')}\n`);
      lines = text.length;
    },
    stop: () => {
      if (stderr.isTTY) back(lines);
    },
  };

  function back(count: number): void {
    moveCursor(stderr, 0, -count);
    cursorTo(stderr, 0);
    clearScreenDown(stderr);
  }
}

function frameLines({ step, isMade, replicas, requestsPerSecond, traffic, errors }: ControlFrame): string[] {
  const failed = errors === 0 ? colors.green('0 errors') : colors.red(`${errors} errors`);
  return [
    `${isMade ? colors.green('✓') : colors.yellow('…')} ${colors.bold(step)}`,
    `  ${requestsPerSecond} requests per second, ${failed}`,
    ...Object.entries(traffic).map(([model, share]) => `  ${model.padEnd(12)}${bar(share)} ${percent(share)}`),
    ...replicas.map(
      ({ id, state, ongoing }) => `  ${STATES[state] ?? '·'} ${id.padEnd(12)}${state.padEnd(9)} ${ongoing} requests`,
    ),
  ];
}

function bar(share: number): string {
  const filled = Math.round(share * BAR_WIDTH);
  return colors.cyan('█'.repeat(filled)) + colors.dim('░'.repeat(BAR_WIDTH - filled));
}

/** Returns the report of what the callers noticed, as a table for a terminal. */
export function controlTables({ steps, requests, errors, callers }: ControlReport): string {
  const table = renderTable(
    ['step', 'made in', 'requests', 'errors', 'p50 / p99', 'traffic after', 'replicas'],
    steps.map((step) => [
      step.step,
      step.takenMs < 0.05 ? '' : `${step.takenMs} ms`,
      step.requests,
      step.errors,
      `${step.latencyMs.p50.toFixed(1)} / ${step.latencyMs.p99.toFixed(1)} ms`,
      Object.entries(step.traffic)
        .map(([model, share]) => `${model} ${percent(share)}`)
        .join('\n'),
      step.fewestReplicas === step.replicas ? step.replicas : `${step.fewestReplicas} to ${step.replicas}`,
    ]),
  );
  const lost = Object.entries(errors).map(([code, count]) => `${count} ${code}`);
  return `${table}\n${requests} requests of ${callers} callers, ${lost.length === 0 ? 'all of them answered' : lost.join(', ')}.`;
}
