/** Replies of handlers as what is sent: JSON, or the byte form of the route. */
import { Lines } from './lines.ts';
import { renderBytes, renderHeader, renderJson, renderPublicJson } from './render.ts';
import { JSON_TYPE } from './negotiate.ts';
import { Document, Rerendered } from './route.ts';
import type { RouteContract } from '../contract/route.ts';
import type { Answer } from './exchange.ts';
import type { AnswerType } from './negotiate.ts';
import type { Reply } from './route.ts';

export class AnswerWriter {
  readonly #contract: RouteContract;

  constructor(contract: RouteContract) {
    this.#contract = contract;
  }

  write(reply: Reply<RouteContract>, type: AnswerType): Answer {
    const status = reply.status ?? this.#contract.status;
    const form = type === JSON_TYPE ? null : this.#contract.bytes;
    const headers = { 'Content-Type': type, ...reply.headers };
    if (reply.body instanceof Document) {
      const { mediaType, text } = reply.body;
      return {
        status,
        headers: { ...headers, 'Content-Type': mediaType },
        body: { bytes: text, secret: false },
      };
    }
    if (reply.body instanceof Rerendered) {
      return { status, headers, body: { bytes: reply.body.json, secret: false } };
    }
    if (reply.body instanceof Lines) {
      const lines = reply.body.values.map((line) => `${renderPublicJson(line)}\n`);
      return { status, headers, body: { bytes: lines.join(''), secret: false } };
    }
    if (form === null || form.answer === null) {
      return { status, headers, body: renderJson(reply.body) };
    }
    const members = reply.body as Readonly<Record<string, unknown>>;
    for (const [member, header] of Object.entries(form.outputs)) {
      const value = renderHeader(members[member]);
      if (value !== undefined) Object.assign(headers, { [header]: value });
    }
    const named = [form.answer].flat().find((member) => members[member] !== undefined) ?? '';
    const body = renderBytes(members[named], type === 'text/plain');
    return { status, headers, body };
  }
}
