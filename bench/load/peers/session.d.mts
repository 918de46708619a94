export function openSession(model: {
  readonly path: string;
  readonly input: string;
  readonly output: string;
  readonly dims: readonly number[];
  readonly threads?: number;
}): Promise<(data: Float32Array, rows?: readonly number[]) => Promise<Float32Array>>;
