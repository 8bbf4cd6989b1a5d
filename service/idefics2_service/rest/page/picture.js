// The image: picked, dropped, pasted, or named by its address. The last one given counts.

import { tellBytes } from "./words.js";

const byId = (id) => document.getElementById(id);

export class Picture extends EventTarget {
  /** `maxBytes` is what the service takes. */
  constructor(maxBytes) {
    super();
    this.#maxBytes = maxBytes;
    this.#input.addEventListener("change", () => this.#input.files.length && this.choose(this.#input.files[0]));
    this.#address.addEventListener("input", () => this.name(this.#address.value.trim()));
    byId("remove").addEventListener("click", () => {
      this.clear();
      this.#input.focus();
    });
    byId("preview").addEventListener("load", () => this.#tellSize());
    byId("preview").addEventListener("error", () => this.#showNoPreview());
    this.#takeDrops();
    document.addEventListener("paste", (event) => this.#takePaste(event));
  }
  #maxBytes;
  #input = byId("image_url");
  #address = byId("address");

  /** `{file, url}` or `{address}` or null. */
  current = null;

  choose(file) {
    this.#input.value = ""; // so that the same file can be picked again
    const fault = this.#findFault(file);
    if (fault) return this.dispatchEvent(new CustomEvent("fault", { detail: fault }));
    this.#address.value = "";
    this.#set({ file, url: URL.createObjectURL(file) });
    byId("picture-name").textContent = `${file.name || "Pasted image"} · ${tellBytes(file.size)}`;
    this.#show("file", this.current.url);
  }

  /** Takes an image by its address; an empty one is none. */
  name(address) {
    this.#set(address ? { address } : null);
    if (!address) return this.#show("none");
    if (/^data:/i.test(address)) return this.#show("file", address, "Data URI");
    const parts = URL.canParse(address) ? new URL(address) : null;
    byId("elsewhere-host").textContent = parts?.hostname || address;
    this.#show("elsewhere", "", parts?.pathname.split("/").pop() || "Image by its address");
  }

  clear() {
    this.#address.value = "";
    this.name("");
  }

  /** Shows again what was asked about before. */
  restore(picture) {
    if (picture.file) return this.choose(picture.file);
    this.#address.value = picture.address;
    this.name(picture.address);
  }

  #set(picture) {
    this.current = picture;
    this.dispatchEvent(new Event("change"));
  }

  #show(kind, source = "", name = null) {
    const preview = byId("preview");
    byId("zone").dataset.kind = kind;
    if (name !== null || kind === "none") byId("picture-name").textContent = name ?? "";
    preview.hidden = kind !== "file";
    if (source) preview.src = source;
    else preview.removeAttribute("src");
  }

  #tellSize() {
    const { naturalWidth: width, naturalHeight: height } = byId("preview");
    byId("picture-name").textContent += ` · ${width} × ${height}`;
  }

  /** Browsers show fewer formats than the service reads. */
  #showNoPreview() {
    byId("preview").hidden = true;
    byId("zone").dataset.kind = "elsewhere";
    byId("elsewhere-host").textContent = "No preview: this browser does not show the file.";
  }

  #findFault(file) {
    if (file.type && !this.#input.accept.split(",").includes(file.type)) {
      return `${file.name || "This"} is ${file.type}, which is not read here.`;
    }
    if (file.size === 0) return `${file.name} is empty.`;
    if (file.size > this.#maxBytes) {
      return `${file.name || "This"} has ${tellBytes(file.size)}; at most ${tellBytes(this.#maxBytes)} are allowed.`;
    }
    return null;
  }

  /** A file may be let go anywhere on the page: beside the frame, a browser would leave the page for it. */
  #takeDrops() {
    const zone = byId("zone");
    document.addEventListener("dragover", (event) => {
      event.preventDefault();
      zone.classList.add("over");
    });
    document.addEventListener("dragleave", (event) => event.relatedTarget ?? zone.classList.remove("over"));
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      zone.classList.remove("over");
      this.#take(event.dataTransfer);
    });
  }

  #takePaste(event) {
    const isTyping = event.target.closest?.("input, textarea") && !event.clipboardData.files.length;
    if (!isTyping && this.#take(event.clipboardData)) event.preventDefault();
  }

  #take(transfer) {
    if (transfer.files.length) {
      this.choose(transfer.files[0]);
      return true;
    }
    const address = (transfer.getData("text/uri-list") || transfer.getData("text/plain")).trim();
    if (!/^(https?:|data:image)/i.test(address)) return false;
    this.#address.value = address;
    this.name(address);
    return true;
  }
}
