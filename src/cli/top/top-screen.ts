import { stripVTControlCharacters } from 'node:util';
import type {
  DeploymentLine,
  EndpointLine,
  ErrorLine,
  EventLine,
  ModelLine,
  ReplicaLine,
  Snapshot,
} from '../../console/messages.js';
import { colors } from '../terminal/colors.js';
import { printable } from '../terminal/printable.js';

export interface Screen {
  readonly height: number;
  readonly width: number;
}

const MOST_ERRORS = 3;
const MOST_EVENTS = 3;
const LEAST_MODELS = 3;
const GAP = 2;

/** Returns the lines of one second, as many as the screen has room for: the busiest models first. */
export function topLines(snapshot: Snapshot, { height, width }: Screen): string[] {
  const { deployments, replicas, models, endpoints, errors, events } = snapshot;
  const head = [headLines(snapshot), deploymentLines(deployments), endpointLines(endpoints), replicaLines(replicas)];
  const tail = [errorLines(errors.slice(0, MOST_ERRORS)), eventLines(events.slice(-MOST_EVENTS))];
  const room = Math.max(LEAST_MODELS, height - parts([...head, [''], ...tail]).length);
  const busiest = [...models].sort((left, right) => right.requests - left.requests || right.replicas - left.replicas);
  const lines = parts([...head, modelLines(busiest.slice(0, room)), ...tail]);
  return lines.slice(0, height).map((line) => cut(line, width));
}

/** The lines of those parts that have any, with an empty one between two. */
function parts(all: readonly (readonly string[])[]): string[] {
  return all.filter((lines) => lines.length > 0).flatMap((lines, index) => (index === 0 ? lines : ['', ...lines]));
}

function headLines({ at, isReady, version, total, modelCount }: Snapshot): string[] {
  const { requests, errors, latency, queued, ongoing, batch, loads, evictions } = total;
  const state = isReady ? colors.green('ready') : colors.red('not ready');
  const failed = errors > 0 ? colors.red(`${rate(errors)} errors/s`) : '0 errors/s';
  const batches = batch === undefined ? '' : `, ${rate(batch)} a call`;
  return [
    `${colors.bold('infermux')} ${printable(version)}  ${state}  ${new Date(at).toLocaleTimeString('en-GB')}  ${modelCount === 1 ? '1 model' : `${modelCount} models`}`,
    `${rate(requests)} requests/s${batches}, ${failed}, ${queued} waiting, ${ongoing} with replicas`,
    `p50 ${ms(latency?.p50)}  p95 ${ms(latency?.p95)}  p99 ${ms(latency?.p99)}  ${rate(loads)} loads/s, ${rate(evictions)} evictions/s`,
  ];
}

function deploymentLines(deployments: readonly DeploymentLine[]): string[] {
  return columns(
    ['deployment', 'state', 'replicas', 'waiting', 'with replicas', 'last change'],
    deployments.map(({ name, state, isReady, running, target, queued, ongoing, goal, lastFailure }) => [
      printable(name),
      isReady ? colors.green(printable(state)) : colors.red(printable(state)),
      `${running}/${target}`,
      String(queued),
      String(ongoing),
      lastFailure === undefined ? printable(goal) : `${printable(goal)}; ${colors.red(printable(lastFailure))}`,
    ]),
  );
}

function endpointLines(endpoints: readonly EndpointLine[]): string[] {
  if (endpoints.length === 0) return [];
  const shares = (of: EndpointLine['traffic']) =>
    of.map(({ target, share }) => `${printable(target)} ${rate(100 * share)} %`).join(', ');
  return columns(
    ['endpoint', 'req/s', 'traffic', 'copies'],
    endpoints.map(({ name, perSecond, traffic, shadows }) => [
      ...[printable(name), rate(perSecond), shares(traffic), shares(shadows)],
    ]),
  );
}

function replicaLines(replicas: readonly ReplicaLine[]): string[] {
  return columns(
    ['replica', 'state', 'req/s', 'works on', 'models'],
    replicas.map(({ id, state, perSecond, work, models, restarts }) => [
      printable(id),
      `${state === 'running' ? colors.green(state) : colors.yellow(printable(state))}${restarts > 0 ? ` (${restarts} restarts)` : ''}`,
      rate(perSecond),
      work === undefined ? '' : `${printable(work.model) || 'its handler'} ×${work.requests}`,
      models
        .map((session) => (session.isLoading ? colors.yellow(`${printable(session.id)}…`) : printable(session.id)))
        .join(' '),
    ]),
  );
}

function modelLines(models: readonly ModelLine[]): string[] {
  return columns(
    ['model', 'req/s', 'p50', 'p99', 'waiting', 'errors/s', 'replicas'],
    models.map(({ id, version, requests, latency, queued, errors, replicas }) => [
      `${printable(id)}@${version}`,
      rate(requests),
      ms(latency?.p50),
      ms(latency?.p99),
      String(queued),
      errors > 0 ? colors.red(rate(errors)) : '0',
      String(replicas),
    ]),
  );
}

function errorLines(errors: readonly ErrorLine[]): string[] {
  return errors.map(({ code, count, message }) => `${colors.red(printable(code))} ×${count}  ${printable(message)}`);
}

/** The newest last. */
function eventLines(events: readonly EventLine[]): string[] {
  return events.map(({ at, text }) => `${colors.dim(new Date(at).toLocaleTimeString('en-GB'))}  ${printable(text)}`);
}

/** Cells one below the other. */
function columns(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const all = [head.map((name) => colors.dim(name)), ...rows];
  const widths = head.map((_, column) => Math.max(...all.map((row) => lengthOf(row[column] ?? ''))));
  return all.map((row) =>
    row
      .map((cell, column) => `${cell}${' '.repeat((widths[column] ?? 0) - lengthOf(cell) + GAP)}`)
      .join('')
      .trimEnd(),
  );
}

function lengthOf(text: string): number {
  return stripVTControlCharacters(text).length;
}

/** Cuts a line that would not fit; its colours are lost then. */
function cut(line: string, width: number): string {
  return lengthOf(line) <= width ? line : `${stripVTControlCharacters(line).slice(0, width - 1)}…`;
}

function rate(value: number): string {
  return value >= 100
    ? Math.round(value).toLocaleString('en')
    : value.toLocaleString('en', { maximumSignificantDigits: 2 });
}

function ms(value: number | undefined): string {
  if (value === undefined) return '–';
  return value >= 1_000 ? `${(value / 1_000).toFixed(1)} s` : `${value.toFixed(value < 10 ? 2 : 0)} ms`;
}
