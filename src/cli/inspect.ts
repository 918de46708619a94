import Table from 'cli-table3';
import { type Batching, batchingPolicy, whyNotBatched } from '../contracts/batching.js';
import { createEngine } from '../index.js';
import { readOnnxFile } from '../models/sources/onnx-file.js';
import type { ModelMetadata, ValueMetadata } from '../tensors/tensor.js';
import { nameModel } from './named-model.js';
import { printable } from './terminal/printable.js';

/** The result of `infermux inspect`. */
export interface ModelReport extends ModelMetadata {
  readonly path: string;
  readonly format: 'ONNX' | 'ORT';
  readonly bytes: number;
  readonly producer: string | undefined;
  readonly opsets: Readonly<Record<string, number>> | undefined;
  readonly loadMs: number;
  /** Why requests are not joined automatically; undefined when they are. */
  readonly whyNotBatched: string | undefined;
}

/** @throws InfermuxError for a file that does not exist or is not a model. */
export async function inspectModel(path: string): Promise<ModelReport> {
  const { id, source } = await nameModel(path);
  const engine = await createEngine({ models: { [id]: source }, replicas: 1 });
  try {
    const startedAt = performance.now();
    const metadata = await engine.loadMetadata(id);
    const loadMs = performance.now() - startedAt;
    const file = await readOnnxFile(path);
    return {
      path,
      format: file === undefined && path.endsWith('.ort') ? 'ORT' : 'ONNX',
      bytes: engine.models.size(id),
      producer: file?.producer,
      opsets: file?.opsets,
      loadMs: Number(loadMs.toFixed(1)),
      ...metadata,
      whyNotBatched: whyNotByItself(metadata, source.batching),
    };
  } finally {
    await engine.close();
  }
}

function whyNotByItself(metadata: ModelMetadata, own: Batching | undefined): string | undefined {
  const { isEnabled, isOwn } = batchingPolicy('auto', own);
  if (!isEnabled) return 'its model.json says so';
  const reason = whyNotBatched(metadata, isOwn);
  // The user may know better than this check.
  const isWorthATry = reason !== undefined && !isOwn && whyNotBatched(metadata, true) === undefined;
  return isWorthATry ? `${reason}; "batching": {} in a model.json asks for it all the same` : reason;
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
  return `${facts}\n${values}`;
}

function describe({ name, type, shape }: ValueMetadata): string[] {
  const sizes = shape.length === 0 ? 'scalar, or none declared' : shape.map((size) => size || '?').join(' × ');
  return [name, type, sizes].map(printable);
}
