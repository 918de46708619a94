import type { OnnxInitializer, OnnxNode } from './onnx.js';

/** Weights with their gradient, summed over a mini-batch, and Adam's two moments. */
export class Parameter {
  readonly values: Float32Array;
  readonly gradient: Float32Array;
  readonly mean: Float32Array;
  readonly variance: Float32Array;

  constructor(values: Float32Array) {
    this.values = values;
    this.gradient = new Float32Array(values.length);
    this.mean = new Float32Array(values.length);
    this.variance = new Float32Array(values.length);
  }
}

/** One layer of a network: computes one example at a time and writes itself as ONNX nodes. */
export interface Layer {
  readonly parameters: readonly Parameter[];
  forward(input: Float32Array): Float32Array;
  /** Takes d loss / d output of the last `forward`, adds to the parameters' gradients, returns d loss / d input. */
  backward(outputGradient: Float32Array): Float32Array;
  toOnnx(name: string, input: string, output: string): { nodes: OnnxNode[]; initializers: OnnxInitializer[] };
}

/** He et al. 2015: uniform with variance 2 / fan-in, which keeps the scale of what follows a ReLU. */
function heUniform(size: number, fanIn: number, random: () => number): Float32Array {
  const limit = Math.sqrt(6 / fanIn);
  return Float32Array.from({ length: size }, () => (random() * 2 - 1) * limit);
}

export class Dense implements Layer {
  readonly #inputs: number;
  readonly #outputs: number;
  readonly #weights: Parameter;
  readonly #bias: Parameter;
  #input: Float32Array = new Float32Array(0);

  constructor(inputs: number, outputs: number, random: () => number) {
    this.#inputs = inputs;
    this.#outputs = outputs;
    this.#weights = new Parameter(heUniform(inputs * outputs, inputs, random));
    this.#bias = new Parameter(new Float32Array(outputs));
  }

  get parameters() {
    return [this.#weights, this.#bias];
  }

  forward(input: Float32Array): Float32Array {
    this.#input = input;
    const output = new Float32Array(this.#outputs);
    for (let row = 0; row < this.#outputs; row += 1) {
      let sum = at(this.#bias.values, row);
      for (let column = 0; column < this.#inputs; column += 1) {
        sum += at(this.#weights.values, row * this.#inputs + column) * at(input, column);
      }
      output[row] = sum;
    }
    return output;
  }

  backward(outputGradient: Float32Array): Float32Array {
    const inputGradient = new Float32Array(this.#inputs);
    for (let row = 0; row < this.#outputs; row += 1) {
      const slope = at(outputGradient, row);
      add(this.#bias.gradient, row, slope);
      for (let column = 0; column < this.#inputs; column += 1) {
        const weight = row * this.#inputs + column;
        add(this.#weights.gradient, weight, slope * at(this.#input, column));
        add(inputGradient, column, slope * at(this.#weights.values, weight));
      }
    }
    return inputGradient;
  }

  toOnnx(name: string, input: string, output: string) {
    const names = [`${name}.weights`, `${name}.bias`] as const;
    return {
      nodes: [{ opType: 'Gemm', input: [input, ...names], output: [output], attributes: { transB: 1 } }],
      initializers: [
        { name: names[0], dims: [this.#outputs, this.#inputs], data: this.#weights.values },
        { name: names[1], dims: [this.#outputs], data: this.#bias.values },
      ],
    };
  }
}

/** 3×3 kernels over square planes, padded so that the planes keep their size. */
export class Convolution implements Layer {
  readonly #channels: number;
  readonly #filters: number;
  readonly #side: number;
  readonly #weights: Parameter;
  readonly #bias: Parameter;
  #input: Float32Array = new Float32Array(0);

  constructor(channels: number, filters: number, side: number, random: () => number) {
    this.#channels = channels;
    this.#filters = filters;
    this.#side = side;
    this.#weights = new Parameter(heUniform(filters * channels * 9, channels * 9, random));
    this.#bias = new Parameter(new Float32Array(filters));
  }

  get parameters() {
    return [this.#weights, this.#bias];
  }

  forward(input: Float32Array): Float32Array {
    this.#input = input;
    const plane = this.#side * this.#side;
    const output = new Float32Array(this.#filters * plane);
    for (let filter = 0; filter < this.#filters; filter += 1) {
      output.fill(at(this.#bias.values, filter), filter * plane, (filter + 1) * plane);
    }
    this.#eachTap((weight, outputAt, inputAt) => {
      add(output, outputAt, at(this.#weights.values, weight) * at(input, inputAt));
    });
    return output;
  }

  backward(outputGradient: Float32Array): Float32Array {
    const inputGradient = new Float32Array(this.#input.length);
    const plane = this.#side * this.#side;
    for (let index = 0; index < outputGradient.length; index += 1) {
      add(this.#bias.gradient, Math.floor(index / plane), at(outputGradient, index));
    }
    this.#eachTap((weight, outputAt, inputAt) => {
      const slope = at(outputGradient, outputAt);
      add(this.#weights.gradient, weight, slope * at(this.#input, inputAt));
      add(inputGradient, inputAt, slope * at(this.#weights.values, weight));
    });
    return inputGradient;
  }

  /** Visits every product of a convolution once: which weight meets which input on the way to which output. */
  #eachTap(visit: (weight: number, outputAt: number, inputAt: number) => void): void {
    const side = this.#side;
    for (let filter = 0; filter < this.#filters; filter += 1) {
      for (let channel = 0; channel < this.#channels; channel += 1) {
        for (let tap = 0; tap < 9; tap += 1) {
          const down = Math.floor(tap / 3) - 1;
          const right = (tap % 3) - 1;
          const weight = (filter * this.#channels + channel) * 9 + tap;
          for (let y = Math.max(0, -down); y < Math.min(side, side - down); y += 1) {
            const outputRow = (filter * side + y) * side;
            const inputRow = (channel * side + y + down) * side + right;
            for (let x = Math.max(0, -right); x < Math.min(side, side - right); x += 1) {
              visit(weight, outputRow + x, inputRow + x);
            }
          }
        }
      }
    }
  }

  toOnnx(name: string, input: string, output: string) {
    const names = [`${name}.weights`, `${name}.bias`] as const;
    const attributes = { kernel_shape: [3, 3], pads: [1, 1, 1, 1] };
    return {
      nodes: [{ opType: 'Conv', input: [input, ...names], output: [output], attributes }],
      initializers: [
        { name: names[0], dims: [this.#filters, this.#channels, 3, 3], data: this.#weights.values },
        { name: names[1], dims: [this.#filters], data: this.#bias.values },
      ],
    };
  }
}

export class Relu implements Layer {
  readonly parameters = [];
  #output: Float32Array = new Float32Array(0);

  forward(input: Float32Array): Float32Array {
    this.#output = input.map((value) => Math.max(value, 0));
    return this.#output;
  }

  backward(outputGradient: Float32Array): Float32Array {
    return outputGradient.map((slope, index) => (at(this.#output, index) > 0 ? slope : 0));
  }

  toOnnx(_name: string, input: string, output: string) {
    return { nodes: [{ opType: 'Relu', input: [input], output: [output] }], initializers: [] };
  }
}

/** Takes the largest value of each 2×2 square in planes of the given side. */
export class MaxPool implements Layer {
  readonly parameters = [];
  readonly #side: number;
  #winners = new Uint32Array(0);
  #inputLength = 0;

  constructor(side: number) {
    this.#side = side;
  }

  forward(input: Float32Array): Float32Array {
    const half = this.#side / 2;
    const output = new Float32Array(input.length / 4);
    this.#winners = new Uint32Array(output.length);
    this.#inputLength = input.length;
    for (let index = 0; index < output.length; index += 1) {
      const corner = Math.floor(index / half) * 2 * this.#side + (index % half) * 2;
      let winner = corner;
      for (const rival of [corner + 1, corner + this.#side, corner + this.#side + 1]) {
        if (at(input, rival) > at(input, winner)) winner = rival;
      }
      this.#winners[index] = winner;
      output[index] = at(input, winner);
    }
    return output;
  }

  backward(outputGradient: Float32Array): Float32Array {
    const inputGradient = new Float32Array(this.#inputLength);
    for (const [index, slope] of outputGradient.entries()) add(inputGradient, at(this.#winners, index), slope);
    return inputGradient;
  }

  toOnnx(_name: string, input: string, output: string) {
    const attributes = { kernel_shape: [2, 2], strides: [2, 2] };
    return { nodes: [{ opType: 'MaxPool', input: [input], output: [output], attributes }], initializers: [] };
  }
}

/** Changes nothing in the computation of one example. In ONNX it names the shape of a whole batch. */
export class Reshape implements Layer {
  readonly parameters = [];
  readonly #dims: readonly number[];

  /** @param dims the shape of one example; the batch stays in front. */
  constructor(dims: readonly number[]) {
    this.#dims = dims;
  }

  forward(input: Float32Array): Float32Array {
    return input;
  }

  backward(outputGradient: Float32Array): Float32Array {
    return outputGradient;
  }

  toOnnx(name: string, input: string, output: string) {
    const data = BigInt64Array.from([-1, ...this.#dims], BigInt);
    return {
      nodes: [{ opType: 'Reshape', input: [input, `${name}.shape`], output: [output] }],
      initializers: [{ name: `${name}.shape`, dims: [data.length], data }],
    };
  }
}

function at(array: Float32Array | Uint32Array, index: number): number {
  return array[index] as number;
}

function add(array: Float32Array, index: number, value: number): void {
  array[index] = (array[index] as number) + value;
}
