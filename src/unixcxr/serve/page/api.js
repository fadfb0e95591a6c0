// Talks to the server. Nothing leaves this origin.

let token = "";

export function useToken(value) {
  token = value;
}

/** An answer of the server that is not a success; `code` is stable, `message` is for people. */
export class ServerError extends Error {
  constructor({ message, code }) {
    super(message);
    this.code = code;
  }
}

function request(path, options = {}) {
  const headers = { ...(options.json ? { "Content-Type": "application/json" } : {}) };
  if (token) headers.Authorization = `Bearer ${token}`;
  const body = options.json ? JSON.stringify(options.json) : options.form;
  return fetch(path, { method: options.method ?? (body ? "POST" : "GET"), headers, body, signal: options.signal });
}

async function failure(response) {
  const body = await response.json().catch(() => null);
  const wait = response.headers.get("Retry-After");
  const error = body?.error ?? { message: `The server answered ${response.status}.`, code: "unknown" };
  return new ServerError({ ...error, message: error.message + (wait ? ` Try again in ${wait} s.` : "") });
}

/** Send a request and return its JSON. */
export async function call(path, options) {
  const response = await request(path, options);
  if (!response.ok) throw await failure(response);
  return response.json();
}

/** Send a request and yield its server-sent events as [name, data]; throws the error event. */
export async function* events(path, options) {
  const response = await request(path, options);
  if (!response.ok) throw await failure(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    buffer += value.replaceAll("\r\n", "\n");
    const blocks = buffer.split("\n\n");
    buffer = blocks.pop();
    for (const block of blocks) {
      const event = parse(block);
      if (!event) continue;
      if (event[0] === "error") throw new ServerError(event[1]);
      yield event;
    }
  }
}

function parse(block) {
  let name = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    if (line.startsWith("data:")) data.push(line.slice(5).trim());
  }
  return data.length ? [name, JSON.parse(data.join("\n"))] : null;
}

/** Wrap a file and fields as a multipart form. */
export function form(file, fields = {}) {
  const data = new FormData();
  data.append("file", file);
  for (const [name, value] of Object.entries(fields)) data.append(name, value);
  return data;
}

/** Make a file from a base64 data URL (without fetch, which the page's policy keeps to this origin). */
export function fileFromUrl(url, name) {
  const [head, data] = url.split(",");
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  return new File([bytes], name, { type: head.slice(5).split(";")[0] });
}

export function download(name, content, type) {
  const link = document.createElement("a");
  link.href = typeof content === "string" && content.startsWith("data:") ? content : URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  if (link.href.startsWith("blob:")) setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
