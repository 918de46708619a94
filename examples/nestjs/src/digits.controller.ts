import { BadRequestException, Body, Controller, HttpCode, Inject, Post } from '@nestjs/common';
import { type InferenceEngine, InfermuxError } from 'infermux';
import { ENGINE } from './infermux.module.js';

@Controller('digits')
export class DigitsController {
  readonly #engine: InferenceEngine;

  constructor(@Inject(ENGINE) engine: InferenceEngine) {
    this.#engine = engine;
  }

  @Post()
  @HttpCode(200)
  async read(@Body() pixels: number[]): Promise<{ digit: number }> {
    try {
      const image = { dims: [1, 64], data: Float32Array.from(pixels) };
      const { probabilities } = await this.#engine.run('digits-cnn', { image });
      const data = probabilities?.data as Float32Array;
      return { digit: data.indexOf(Math.max(...data)) };
    } catch (error) {
      if (error instanceof InfermuxError && error.code === 'INVALID_ARGUMENT')
        throw new BadRequestException(error.message);
      throw error;
    }
  }
}
