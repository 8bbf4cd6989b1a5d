// What was asked before on this page: in memory only.

const MOST = 20;
const list = document.getElementById("earlier-list");

/** Puts a question with its answer on top of the list; `onAgain` is called to ask it again. */
export function remember({ picture, input, output }, onAgain) {
  const item = document.createElement("li");
  item.className = "earlier";
  item.append(makeThumbnail(picture), makeText(input.prompt), makeText(output), makeButton(onAgain));
  item.release = () => picture.url && URL.revokeObjectURL(picture.url);
  list.prepend(item);
  document.getElementById("earlier").hidden = false;
  if (list.children.length > MOST) {
    list.lastElementChild.release();
    list.lastElementChild.remove();
  }
}

function makeThumbnail(picture) {
  const source = picture.url ?? (/^data:/i.test(picture.address) ? picture.address : null);
  const thumbnail = document.createElement(source ? "img" : "span");
  if (source) {
    thumbnail.src = source;
    thumbnail.alt = picture.file?.name ?? "";
  }
  return thumbnail;
}

function makeText(text) {
  const paragraph = document.createElement("p");
  paragraph.dir = "auto";
  paragraph.textContent = text;
  return paragraph;
}

function makeButton(onAgain) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Ask again";
  button.addEventListener("click", onAgain);
  return button;
}
