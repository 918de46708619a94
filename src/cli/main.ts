#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { SingleBar } from 'cli-progress';
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { messageOf } from '../errors.js';
import { benchChart, benchModel, benchTable } from './bench.js';
import { runDemo } from './demo.js';
import { demoTables } from './demo-tables.js';
import { inspectModel, inspectTables } from './inspect.js';
import { type InputShapes, parseInputShape } from './random-feeds.js';

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
    const progress = progressBar('requests');
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

program
  .command('inspect')
  .description('Show what a model takes and gives, and whether its requests can be joined.')
  .argument('<model>', 'an ONNX or ORT file')
  .option('--json', 'print one JSON object instead of tables')
  .exitOverride()
  .action(async (model: string, { json }: { json?: boolean }) => {
    const report = await inspectModel(model);
    process.stdout.write(json === true ? `${JSON.stringify(report, null, 2)}\n` : `${inspectTables(report)}\n`);
  });

program
  .command('bench')
  .description('Measure a model with several numbers of replicas and of concurrent callers.')
  .argument('<model>', 'an ONNX or ORT file')
  .option('--input <name=dims>', 'shape of an input, like image=1x3x224x224; repeatable', addInputShape, new Map())
  .option('--callers <list>', 'concurrent callers to try', positiveIntegers, [1, 4, 16, 64, 256])
  .option('--replicas <list>', 'replicas to try', positiveIntegers, [...new Set([1, availableParallelism()])])
  .option('--seconds <seconds>', 'length of each measurement', seconds, 1)
  .option('--svg <file>', 'write a bar chart too')
  .option('--json', 'print one JSON object instead of a table')
  .exitOverride()
  .action(async (path: string, { input: shapes, svg, json, ...settings }: BenchFlags) => {
    const progress = progressBar('measurements');
    const report = await benchModel({ path, shapes, ...settings }, progress.update).finally(progress.stop);
    process.stdout.write(json === true ? `${JSON.stringify(report, null, 2)}\n` : `${benchTable(report)}\n`);
    if (svg !== undefined) await writeFile(svg, benchChart(report));
  });

interface BenchFlags {
  readonly input: InputShapes;
  readonly callers: number[];
  readonly replicas: number[];
  readonly seconds: number;
  readonly svg?: string;
  readonly json?: boolean;
}

function addInputShape(text: string, shapes: Map<string, readonly number[]>): Map<string, readonly number[]> {
  try {
    const [name, dims] = parseInputShape(text);
    return shapes.set(name, dims);
  } catch (error) {
    throw new InvalidArgumentError(messageOf(error));
  }
}

/** Callers, replicas or seconds: more is a typing error. */
const MOST = 10_000;
const LEAST_SECONDS = 0.01;

function positiveIntegers(text: string): number[] {
  const numbers = text.split(',').map(Number);
  if (numbers.every((number) => Number.isSafeInteger(number) && number > 0 && number <= MOST)) return numbers;
  throw new InvalidArgumentError(`expected integers from 1 to ${MOST} with commas between, like 1,16,64.`);
}

function seconds(text: string): number {
  const number = Number(text);
  if (number >= LEAST_SECONDS && number <= MOST) return number;
  throw new InvalidArgumentError(`expected a number from ${LEAST_SECONDS} to ${MOST}.`);
}

/** On a terminal; none when what is printed goes to a file or a pipe. */
function progressBar(what: string) {
  if (!process.stdout.isTTY || !process.stderr.isTTY) return { update: () => undefined, stop: () => undefined };
  const bar = new SingleBar({
    format: `{bar} {percentage} % | {value} of {total} ${what}`,
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
