#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { SingleBar } from 'cli-progress';
import { Command, CommanderError } from 'commander';
import { messageOf } from '../errors.js';
import { runDemo } from './demo.js';
import { demoTables } from './demo-tables.js';

/** Exit codes: 0 done, 1 it failed, 2 the command line was wrong. */
const FAILED = 1;
const WRONG_USAGE = 2;

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

const program = new Command('infermux')
  .description('Many ONNX models on a pool of worker threads inside one Node.js process.')
  .version(version)
  .showHelpAfterError('(infermux --help shows what there is)')
  .exitOverride();

program
  .command('demo')
  .description('Send 1,797 handwritten digits to twelve models on two replicas that hold three models each.')
  .option('--json', 'print one JSON object instead of tables')
  .exitOverride()
  .action(async ({ json }: { json?: boolean }) => {
    const progress = progressBar();
    // The bar changes how the terminal behaves; that must not outlive it.
    for (const [signal, code] of [
      ['SIGINT', 130],
      ['SIGTERM', 143],
    ] as const) {
      process.once(signal, () => {
        progress.stop();
        process.exit(code);
      });
    }
    const report = await runDemo(progress.update).finally(progress.stop);
    process.stdout.write(json === true ? `${JSON.stringify(report, null, 2)}\n` : `${demoTables(report)}\n`);
  });

/** On a terminal; none when what is printed goes to a file or a pipe. */
function progressBar() {
  if (!process.stdout.isTTY || !process.stderr.isTTY) return { update: () => undefined, stop: () => undefined };
  const bar = new SingleBar({
    format: '{bar} {percentage} % | {value} of {total} requests',
    stream: process.stderr,
    clearOnComplete: true,
    barCompleteChar: '█',
    barIncompleteChar: '░',
  });
  let isStarted = false;
  return {
    update: (done: number, total: number) => {
      if (!isStarted) bar.start(total, 0);
      isStarted = true;
      bar.update(done);
    },
    stop: () => bar.stop(),
  };
}

// Whoever reads the output may stop reading; that is no failure of ours.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') process.stderr.write(`infermux: ${messageOf(error)}\n`);
  process.exit(error.code === 'EPIPE' ? 0 : FAILED);
});

try {
  await program.parseAsync();
} catch (error) {
  // commander has said what was wrong already.
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : WRONG_USAGE;
  else {
    process.stderr.write(`infermux: ${messageOf(error)}\n`);
    process.exitCode = FAILED;
  }
}
