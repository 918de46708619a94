import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { DigitsController } from './digits.controller.js';
import { InfermuxModule } from './infermux.module.js';

@Module({
  imports: [InfermuxModule.forRoot({ models: 'node_modules/infermux/native-models' })],
  controllers: [DigitsController],
})
class AppModule {}

const app = await NestFactory.create(AppModule, { logger: ['error', 'warn'] });
app.enableShutdownHooks(); // SIGTERM closes the server, then the engine
await app.listen(Number(process.env['PORT'] ?? 3000));
console.log((await app.getUrl()).replace('[::1]', 'localhost').replace('127.0.0.1', 'localhost'));
