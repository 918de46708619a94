import Table from 'cli-table3';
import { createEngine, type ModelInspection, type ValueMetadata } from '../index.js';
import type { Signs } from './children/jobs.js';
import { nameModel } from './named-model.js';
import { printable } from './terminal/printable.js';

/** The result of `infermux inspect`. */
export interface ModelReport
  extends Pick<
    ModelInspection,
    'bytes' | 'producer' | 'opsets' | 'inputs' | 'outputs' | 'omittedOutputs' | 'whyNotBatched'
  > {
  readonly path: string;
  readonly format: 'ONNX' | 'ORT';
  readonly loadMs: number;
}

/** @throws InfermuxError for a file that does not exist or is not a model. */
export async function inspectModel(path: string, { begins }: Signs): Promise<ModelReport> {
  const { id, source } = await nameModel(path);
  const engine = await createEngine({ models: { [id]: source }, replicas: 1 });
  try {
    begins('load', engine.models.size(id));
    const startedAt = performance.now();
    await engine.models.retrieve(id);
    const loadMs = performance.now() - startedAt;
    const { bytes, producer, opsets, inputs, outputs, omittedOutputs, whyNotBatched } = await engine.models.inspect(id);
    return {
      path,
      format: opsets === undefined && path.endsWith('.ort') ? 'ORT' : 'ONNX',
      bytes,
      producer,
      opsets,
      loadMs: Number(loadMs.toFixed(1)),
      inputs,
      outputs,
      omittedOutputs,
      whyNotBatched,
    };
  } finally {
    await engine.close();
  }
}

export function inspectTables(report: ModelReport): string {
  const { format, bytes, producer, opsets, loadMs, inputs, outputs } = report;
  const facts = new Table({ style: { head: [], border: [] } });
  const opset = Object.entries(opsets ?? {}).map(([domain, version]) => `${domain} ${version}`);
  facts.push(
    ['model', report.path],
    ['format', producer ? `${format}, made by ${printable(producer)}` : format],
    ['opset', printable(opset.join(', ')) || 'not known'],
    ['size', `${bytes.toLocaleString('en')} bytes`],
    ['load', `${loadMs} ms`],
    ['batched', report.whyNotBatched === undefined ? 'yes' : `no: ${printable(report.whyNotBatched)}`],
  );
  const values = new Table({ head: ['', 'name', 'type', 'shape'], style: { head: [], border: [] } });
  for (const input of inputs) values.push(['input', ...describe(input)]);
  for (const output of outputs) values.push(['output', ...describe(output)]);
  for (const { name, reason } of report.omittedOutputs)
    values.push(['left out', printable(name), '', printable(reason)]);
  return `${facts}\n${values}`;
}

function describe({ name, type, shape }: ValueMetadata): string[] {
  const sizes = shape.length === 0 ? 'scalar, or none declared' : shape.map((size) => size || '?').join(' × ');
  return [name, type, sizes].map(printable);
}
