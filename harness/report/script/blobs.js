// What Python packed into the page: compressed JSON, opened when it is asked for, and only once.
const opened = new Map();

function unpack(name) {
  if (!opened.has(name)) opened.set(name, inflate(name));
  return opened.get(name);
}

async function inflate(name) {
  const node = document.getElementById(`blob-${name}`);
  if (!node) return null;
  const bytes = Uint8Array.from(atob(node.textContent), (char) => char.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}
