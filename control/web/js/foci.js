// The page that shows who is connected where, without a call.

import { FociPicture } from "./picture.js";

const picture = new FociPicture(document.getElementById("foci"));
picture.start();
// For tests, and for curious people at the console.
window.foci = picture;
