import { existsSync } from 'node:fs';
import type { Command } from 'commander';
import { parsePath, parseWritableFile, TIMEOUT } from '../flags.js';
import { FAILED, print, progressOf, WRONG_USAGE } from '../terminal/print.js';
import { messageOf, printable, quoted } from '../terminal/printable.js';
import type { ModelPlace } from './model-place.js';

interface ModelsFlags {
  readonly finder?: string;
  readonly json?: boolean;
}

interface CheckFlags extends ModelsFlags {
  readonly isolated?: boolean;
  readonly timeout?: number;
}

interface TypesFlags {
  readonly finder?: string;
  readonly output?: string;
  readonly check?: boolean;
  readonly timeout?: number;
}

/** Commands that look at models as an engine does. */
export function addModelCommands(program: Command): void {
  const models = program
    .command('models')
    .description('List and check the models of a directory or a finder.')
    .exitOverride();
  addList(models);
  addCheck(models);
  addTypes(program);
}

/** Adds a command that looks at models of one place. */
function ofModels(parent: Command, name: string, description: string): Command {
  return parent
    .command(name)
    .description(description)
    .argument(
      '[where...]',
      'a directory with <id>.onnx, <id>/model.onnx or <id>/<version>/model.onnx; with --finder, ids of models (default with --finder: all that the finder lists)',
    )
    .option('--finder <file>', 'a module with a finder as its default export, or as the export named finder', parsePath)
    .exitOverride();
}

/** @param where as typed. */
function placeOf(where: readonly string[], finder: string | undefined, command: Command): ModelPlace {
  if (finder !== undefined) return { finder, ids: where };
  const [directory] = where;
  if (directory !== undefined && where.length === 1) {
    try {
      return { directory: parsePath(directory) };
    } catch (error) {
      command.error(`error: ${messageOf(error)}`, { exitCode: WRONG_USAGE });
    }
  }
  return command.error('error: give exactly one directory, or --finder', { exitCode: WRONG_USAGE });
}

function addList(models: Command): void {
  ofModels(models, 'list', 'List the models that an engine would serve, and the problems of the others.')
    .option('--json', 'print one JSON object instead of a table')
    .action(async (where: string[], { finder, json }: ModelsFlags, command: Command) => {
      const place = placeOf(where, finder, command);
      const { listModels, repositoryTables } = await import('./check-models.js');
      print(json, await listModels(place), repositoryTables);
    });
}

function addCheck(models: Command): void {
  ofModels(
    models,
    'check',
    'Load each model, check its hash, and do its warm-up runs. The exit code is 1 if there is a problem.',
  )
    .option('--json', 'print one JSON object instead of a table')
    .option(...TIMEOUT)
    .option('--isolated', 'check each model in a separate process instead of one process for all')
    .action(async (where: string[], { finder, json, timeout, isolated = false }: CheckFlags, command: Command) => {
      const place = placeOf(where, finder, command);
      const { checkModels, repositoryTables } = await import('./check-models.js');
      const progress = await progressOf('models');
      const limits = { timeoutSeconds: timeout };
      const report = await checkModels(place, limits, isolated, progress.update).finally(progress.stop);
      print(json, report, repositoryTables);
      if (report.problems.length > 0) process.exitCode = FAILED;
    });
}

function addTypes(program: Command): void {
  ofModels(program, 'types', 'Write TypeScript types of the ids, inputs and outputs of models.')
    .option(
      '-o, --output <file>',
      'file to write, for example models.d.ts (default: the standard output)',
      parseWritableFile,
    )
    .option('--check', 'write nothing; the exit code is 1 if the file of --output is out of date')
    .option(...TIMEOUT)
    .action(async (where: string[], flags: TypesFlags, command: Command) => {
      const { finder, output, check } = flags;
      const place = placeOf(where, finder, command);
      if (check === true && output === undefined) {
        command.error("error: option '--check' needs '--output'", { exitCode: WRONG_USAGE });
      }
      await writeTypes(place, flags);
    });
}

async function writeTypes(place: ModelPlace, { output, check, timeout }: TypesFlags): Promise<void> {
  const { declareModels, hasText } = await import('./model-types.js');
  const progress = await progressOf('models');
  const declared = await declareModels(place, { timeoutSeconds: timeout }, progress.update).finally(progress.stop);
  const { text, models, problems } = declared;
  for (const { model, problem } of problems) process.stderr.write(`infermux: ${printable(`${model}: ${problem}`)}\n`);
  if (problems.length > 0) process.exitCode = FAILED;
  if (models === 0) {
    process.stderr.write('infermux: no model was found, so there is nothing to write\n');
    process.exitCode = FAILED;
  } else if (output === undefined) process.stdout.write(text);
  else if (problems.length > 0 && existsSync(output))
    process.stderr.write(`infermux: ${quoted(output)} stays as it is\n`);
  else if (await hasText(output, text)) process.stderr.write(`${quoted(output)} is up to date: ${counted(models)}\n`);
  else if (check === true) {
    process.stderr.write(`infermux: ${quoted(output)} is not up to date: run infermux types again\n`);
    process.exitCode = FAILED;
  } else {
    const { replaceFile } = await import('../replace-file.js');
    replaceFile(output, text);
    process.stderr.write(`${quoted(output)} is written: ${counted(models)}\n`);
  }
}

function counted(models: number): string {
  return models === 1 ? '1 model' : `${models} models`;
}
