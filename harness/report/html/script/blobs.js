// What Python packed into the page: compressed JSON, opened when it is asked for, and only once.
const opened = new Map(), settled = new Map();

function unpack(name) {
  if (!opened.has(name)) opened.set(name, inflate(name).then((content) => { settled.set(name, content); return content; }));
  return opened.get(name);
}

// What has been opened already, for those who cannot wait: a browser that prints.
function unpacked(name) {
  return settled.get(name);
}

async function inflate(name) {
  const node = document.getElementById(`blob-${name}`);
  if (!node) return null;
  const bytes = Uint8Array.from(atob(node.textContent), (char) => char.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}
