/** Entry file of the thread that validates policies: one after the other. */
import { parentPort } from 'node:worker_threads';

import { PolicyInvalid } from './policy-error.ts';
import { validateHere } from './policy-validation.ts';
import type { ValidationJob, ValidationReply } from './policy-validation.ts';

function replyTo(job: ValidationJob): ValidationReply {
  try {
    validateHere(job);
    return { complaints: [] };
  } catch (error) {
    if (error instanceof PolicyInvalid) return { complaints: error.complaints };
    return { error: error instanceof Error ? error.message : String(error) };
  }
}

parentPort?.on('message', (job: ValidationJob) => parentPort?.postMessage(replyTo(job)));
