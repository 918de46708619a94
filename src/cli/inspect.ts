import { createEngine, type ModelInspection, type ValueMetadata } from '../index.js';
import type { Signs } from './children/jobs.js';
import { nameModel } from './models/named-model.js';
import { renderFacts } from './terminal/tables.js';

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
  const engine = await createEngine({ models: { [id]: source }, replicas: 1, loadTimeoutMs: -1 });
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
  const opset = Object.entries(opsets ?? {}).map(([domain, version]) => `${domain} ${version}`);
  const facts = renderFacts([
    ['model', report.path],
    ['format', producer ? `${format}, made by ${producer}` : format],
    ['opset', opset.join(', ') || 'not known'],
    ['size', `${bytes.toLocaleString('en')} bytes`],
    ['load', `${loadMs} ms`],
    ['batched', report.whyNotBatched === undefined ? 'yes' : `no: ${report.whyNotBatched}`],
  ]);
  const values = renderFacts(
    [
      ...inputs.map((input) => ['input', ...describe(input)]),
      ...outputs.map((output) => ['output', ...describe(output)]),
      ...report.omittedOutputs.map(({ name, reason }) => ['left out', name, '', reason]),
    ],
    { head: ['', 'name', 'type', 'shape'] },
  );
  return `${facts}\n${values}`;
}

function describe({ name, type, shape }: ValueMetadata): string[] {
  const sizes = shape.length === 0 ? 'scalar, or none declared' : shape.map((size) => size || '?').join(' × ');
  return [name, type, sizes];
}
