import android.content.Context
import android.graphics.Bitmap
import com.example.classifier.Classifier
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** Prepares RGBA bytes as the snippet does: width, height and the files with the bytes and for the floats, repeated. */
fun main(arguments: Array<String>) {
    for ((width, height, from, to) in arguments.toList().chunked(4)) {
        val bytes = File(from).readBytes()
        val pixels = IntArray(bytes.size / 4) { pixel(bytes, 4 * it) }
        val bitmap = Bitmap(width.toInt(), height.toInt(), pixels)
        val prepared = Classifier.prepare(bitmap)
        val buffer = ByteBuffer.allocate(4 * prepared.size).order(ByteOrder.LITTLE_ENDIAN)
        buffer.asFloatBuffer().put(prepared)
        File(to).writeBytes(buffer.array())
        Classifier.open(Context(File(from).parentFile)).use { println(it.classify(bitmap)) }
    }
}

fun pixel(bytes: ByteArray, from: Int): Int =
    (at(bytes, from + 3) shl 24) or (at(bytes, from) shl 16) or (at(bytes, from + 1) shl 8) or at(bytes, from + 2)

fun at(bytes: ByteArray, index: Int): Int = bytes[index].toInt() and 0xFF
