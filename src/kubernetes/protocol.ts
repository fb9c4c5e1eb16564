/**
 * Kubernetes KMS v2 on the wire: package `v2`, service `KeyManagementService`, as Protocol Buffers.
 *
 * The messages are those of k8s.io/kms v2 (`api.proto`), field for field. Fields that are not known are
 * ignored, as the standard of Protocol Buffers asks.
 */
import type {
  ServiceDefinition,
  UntypedServiceImplementation,
  handleUnaryCall,
} from '@grpc/grpc-js';
import { fromJSON } from '@grpc/proto-loader';

/** `StatusRequest` has no fields. */
export type StatusRequest = Readonly<Record<string, never>>;

export interface StatusResponse {
  /** Always `v2`. */
  readonly version: string;
  /** `ok`, or what is wrong in words. */
  readonly healthz: string;
  readonly keyId: string;
}

export type Annotations = Readonly<Record<string, Uint8Array>>;

export interface DecryptRequest {
  readonly ciphertext: Uint8Array;
  readonly uid: string;
  readonly keyId: string;
  readonly annotations: Annotations;
}

export interface DecryptResponse {
  readonly plaintext: Uint8Array;
}

export interface EncryptRequest {
  readonly plaintext: Uint8Array;
  readonly uid: string;
}

export interface EncryptResponse {
  readonly ciphertext: Uint8Array;
  readonly keyId: string;
  readonly annotations: Annotations;
}

const annotations = (id: number) => ({ keyType: 'string', type: 'bytes', id });

const MESSAGES = {
  StatusRequest: { fields: {} },
  StatusResponse: {
    fields: {
      version: { type: 'string', id: 1 },
      healthz: { type: 'string', id: 2 },
      keyId: { type: 'string', id: 3 },
    },
  },
  DecryptRequest: {
    fields: {
      ciphertext: { type: 'bytes', id: 1 },
      uid: { type: 'string', id: 2 },
      keyId: { type: 'string', id: 3 },
      annotations: annotations(4),
    },
  },
  DecryptResponse: { fields: { plaintext: { type: 'bytes', id: 1 } } },
  EncryptRequest: {
    fields: { plaintext: { type: 'bytes', id: 1 }, uid: { type: 'string', id: 2 } },
  },
  EncryptResponse: {
    fields: {
      ciphertext: { type: 'bytes', id: 1 },
      keyId: { type: 'string', id: 2 },
      annotations: annotations(3),
    },
  },
};

const method = (name: string) => ({
  requestType: `${name}Request`,
  responseType: `${name}Response`,
  comment: '',
});

const METHODS = {
  Status: method('Status'),
  Decrypt: method('Decrypt'),
  Encrypt: method('Encrypt'),
};

const SERVICE_NAME = 'v2.KeyManagementService';

const loaded = fromJSON(
  { nested: { v2: { nested: { ...MESSAGES, KeyManagementService: { methods: METHODS } } } } },
  { defaults: true, oneofs: false },
);

/** For a gRPC server or client; paths are `/v2.KeyManagementService/Status` and so on. */
export const KEY_MANAGEMENT_SERVICE = loaded[SERVICE_NAME] as ServiceDefinition;

export interface KeyManagementHandlers extends UntypedServiceImplementation {
  readonly Status: handleUnaryCall<StatusRequest, StatusResponse>;
  readonly Encrypt: handleUnaryCall<EncryptRequest, EncryptResponse>;
  readonly Decrypt: handleUnaryCall<DecryptRequest, DecryptResponse>;
}
