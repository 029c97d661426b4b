// As much of Android as the Kotlin snippet touches, so that it compiles and runs without a phone.
package android.content

import java.io.File

class AssetManager(private val folder: File) {
    fun open(name: String) = File(folder, name).inputStream()
}

class Context(folder: File) {
    val noBackupFilesDir = folder
    val assets = AssetManager(folder)
}
