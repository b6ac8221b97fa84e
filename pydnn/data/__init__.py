"""Data: data sets by name, tables, your own pictures, and the cats that pydnn draws itself."""

from pydnn.data.drawn_cats import draw_cats
from pydnn.data.image_folders import ImageFolder, load_image_folder
from pydnn.data.image_sets import (
    ImageSet,
    columns_of,
    drawn_cats,
    load_catvnoncat,
    save_catvnoncat,
    to_batch,
)
from pydnn.data.importing import Imported, import_data
from pydnn.data.photos import load_photo
from pydnn.data.sets import (
    DataSet,
    lasting_name,
    load_data_set,
    load_images,
    load_table,
    save_table,
    table_data,
    text,
)
from pydnn.data.sheets import contact_sheet, save_sheet
from pydnn.data.stored import Stored, StoredArray
from pydnn.data.stored_tables import StoredTable, StoredTableBatch, store_table
from pydnn.data.table_files import read_table
from pydnn.data.tables import Column, Table, TableBatch
from pydnn.data.texts import TextExamples, Vocabulary, lines, windows

__all__ = [
    "Column",
    "DataSet",
    "ImageFolder",
    "ImageSet",
    "Imported",
    "Stored",
    "StoredArray",
    "StoredTable",
    "StoredTableBatch",
    "Table",
    "TableBatch",
    "TextExamples",
    "Vocabulary",
    "columns_of",
    "contact_sheet",
    "draw_cats",
    "drawn_cats",
    "import_data",
    "lasting_name",
    "lines",
    "load_catvnoncat",
    "load_data_set",
    "load_image_folder",
    "load_images",
    "load_photo",
    "load_table",
    "read_table",
    "save_catvnoncat",
    "save_sheet",
    "save_table",
    "store_table",
    "table_data",
    "text",
    "to_batch",
    "windows",
]
